/** Whether a run mirrors the image (test-time augmentation), from the request, the config and the device. */
import { AppError } from '../errors.js'
import type { LoadedModel } from './run.js'

export interface Mirroring {
  /** Spatial array axes to mirror along; none: the network sees the image once. */
  readonly axes: readonly number[]
  /** What the user should know. */
  readonly note?: string | undefined
}

const WORDS: Readonly<Record<string, boolean>> = { true: true, false: false }

/**
 * `wish` is the request's `tta`, which comes first; then the config's; without either, mirroring is on where the network
 * runs on a GPU, since it takes a run for every way round. Throws BAD_PARAMS for a wish that is neither true nor false.
 */
export function mirroring({ ref, predictor }: LoadedModel, wish: unknown): Mirroring {
  const { mirror } = ref.config.inference
  const asked = typeof wish === 'string' ? WORDS[wish.toLowerCase()] : (wish ?? undefined)
  if (asked !== undefined && typeof asked !== 'boolean') throw notBoolean()
  if (typeof wish === 'string' && asked === undefined) throw notBoolean()
  if (!mirror)
    return asked
      ? { axes: [], note: "'tta' changes nothing: the config of this model names no mirror_axes" }
      : { axes: [] }
  const said = asked ?? mirror.on
  if (said !== undefined) return { axes: said ? mirror.axes : [] }
  if (predictor.device !== 'cpu') return { axes: mirror.axes }
  const runs = 2 ** mirror.axes.length
  return {
    axes: [],
    note: `mirroring (test-time augmentation) is off on a CPU, where it takes ${runs} times as long; params {"tta": true} turns it on`,
  }
}

function notBoolean(): AppError {
  return new AppError('BAD_PARAMS', 'params.tta: must be true or false')
}
