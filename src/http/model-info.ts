/** A model as clients see it: AIAA's fields in the types its clients insist on, the config's own additions, then ours. */
import { z } from 'zod'
import { MODEL_TYPES } from '../contract/model.js'
import type { ModelEntry } from '../registry/registry.js'
import type { RunnerStatus } from '../scheduler/scheduler.js'

/**
 * `version` is always text and `description` never null: NVIDIA's C++ client fails on the whole list otherwise. Keys of
 * the config's additional_info or meta_data (`deepgrow`, `sigma`, …) appear beside these.
 */
export const ModelInfo = z
  .looseObject({
    name: z.string(),
    type: z.enum(MODEL_TYPES),
    labels: z.array(z.string()).meta({ description: 'in the order of their label values' }),
    description: z.string(),
    version: z.string().meta({ description: 'of the config format' }),
    padding: z.number().optional().meta({ description: 'mm around the extreme points, for annotation models' }),
    roi: z.array(z.number()).optional().meta({ description: 'voxels of the crop, for annotation models' }),
    deepgrow: z.unknown().optional().meta({ description: '2D or 3D: what a click belongs to' }),
    state: z
      .enum(['UNLOADED', 'LOADING', 'READY', 'FAILED'])
      .meta({ description: 'UNLOADED models are loaded by their first request' }),
    reason: z.string().optional().meta({ description: 'why it is FAILED, or not on the device that was asked for' }),
    device: z.string().optional().meta({ description: 'what runs it, once loaded: cpu, cuda:0, kserve' }),
    origin: z.enum(['bundled', 'workspace']),
    revision: z.string().meta({ description: 'hash of weights and config' }),
    sha256: z.string().optional().meta({ description: 'of the weights' }),
    bytes: z.number().optional().meta({ description: 'of the weights' }),
  })
  .meta({ id: 'ModelInfo' })
export type ModelInfo = z.infer<typeof ModelInfo>

const number = z.coerce.number().refine(Number.isFinite)
/** Additions that NVIDIA's C++ client reads of every model, and in one type only. */
const READ_BY_CLIENTS: Readonly<Record<string, z.ZodType>> = { padding: number, sigma: number, roi: z.array(number) }
/** Said by the server alone. */
const OURS: readonly string[] = ['state', 'reason', 'device', 'origin', 'revision', 'sha256', 'bytes']

/** The config's own additions, less those that would cost a client, or the schema of the reply, the whole list. */
function additions(info: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const kept: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(info)) {
    if (value === null || OURS.includes(key)) continue
    const read = READ_BY_CLIENTS[key]?.safeParse(value)
    if (read?.success !== false) kept[key] = read ? read.data : value
  }
  return kept
}

/** Undefined for a model whose config cannot be read: there is nothing in it that a client could use. */
export function modelInfo(entry: ModelEntry, runners: readonly RunnerStatus[]): ModelInfo | undefined {
  const { config } = entry
  if (!config) return undefined
  const runner = runners.find(({ model, revision }) => model === entry.name && revision === entry.revision)
  const reason = entry.reason ?? runner?.fallbackReason
  return {
    ...additions(config.info),
    name: entry.name,
    type: config.type,
    labels: [...config.labels],
    description: config.description,
    version: config.version,
    ...(config.type === 'annotation' ? { padding: config.padding, roi: config.roi && [...config.roi] } : {}),
    state: stateOf(entry, runner),
    ...(reason === undefined ? {} : { reason }),
    ...(runner?.device === undefined ? {} : { device: runner.device }),
    origin: entry.origin,
    revision: entry.revision,
    ...(entry.sha256 === undefined ? {} : { sha256: entry.sha256 }),
    ...(entry.bytes === undefined ? {} : { bytes: entry.bytes }),
  }
}

export function stateOf(entry: ModelEntry, runner: RunnerStatus | undefined): ModelInfo['state'] {
  if (entry.state === 'FAILED' || !runner || runner.state === 'stopping') return entry.state
  return runner.state === 'loading' ? 'LOADING' : 'READY'
}
