/** One line of the table that `npm run bench` prints: what a program measured, and what it is held against. */
import { appendFileSync } from 'node:fs'
import { z } from 'zod'

export const Measurement = z.object({
  work: z.string(),
  unit: z.enum(['s', 'ms', 'MB', 'x']),
  ours: z.number(),
  /** What `other` is: a program of the field, the bare network, one client alone. */
  against: z.string(),
  other: z.number(),
  /** What is compared with the goal: `ours / other`, or `ours - other` in the unit. */
  compared: z.enum(['ratio', 'difference']),
  goal: z.number().optional(),
})
export type Measurement = z.infer<typeof Measurement>

/** Where the records go when the programs are run together. */
export const RECORDS = 'AIDANT_BENCH_RECORDS'

/** Adds a line to the table, where there is one. */
export function record(measurement: Measurement): void {
  const path = process.env[RECORDS]
  if (path !== undefined) appendFileSync(path, `${JSON.stringify(Measurement.parse(measurement))}\n`)
}

export function comparedValue({ ours, other, compared }: Measurement): number {
  return compared === 'ratio' ? ours / other : ours - other
}
