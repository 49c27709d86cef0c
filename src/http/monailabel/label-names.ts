/** `label_names` of a reply: 3D Slicer gives names to the values of a label map in increasing order, so absent labels are left out. */
import { z } from 'zod'
import type { JobResult } from '../../contract/job.js'

const Statistics = z.array(z.object({ label: z.int(), name: z.string() }))

/**
 * The result with `params.label_names`: the values that occur, by name. `structure` is what the client called the one thing
 * that clicks draw. A result that is no label map has none.
 */
export function withLabelNames(result: JobResult, structure: string | undefined): JobResult {
  const present = Statistics.safeParse(result.params.label_statistics)
  if (!present.success) return result
  const names = new Map<string, number>()
  const only = present.data.length === 1
  for (const { label, name } of present.data) {
    const called = only && structure !== undefined ? structure : name
    names.set(names.has(called) ? `${called} (${label})` : called, label)
  }
  return { ...result, params: { ...result.params, label_names: Object.fromEntries(names) } }
}
