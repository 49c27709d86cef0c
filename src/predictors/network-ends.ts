/**
 * A network that can also end otherwise, opened so when it is first asked for. In labels: one number a voxel comes from the
 * engine then, and not one a class, which takes less time and a good deal less memory. In the phases of its last
 * convolution: the engine then does not put them between each other, which whoever sums them does on the way.
 */
import type { LabelEnd, LabelNetwork, PhaseNetwork, Predictor, Tensor } from '../contract/tensor.js'
import { endAlone, endInLabels } from '../onnx/label-end.js'
import { writeModel } from '../onnx/model-file.js'
import type { Model } from '../onnx/onnx_pb.js'
import { endInPhases } from '../onnx/phases.js'
import { makeSink, type Reduction, reduceStretch } from '../transforms/reduction.js'
import type { ChosenModel } from './choose-rewrites.js'
import { createOnnxPredictor, type OnnxSettings } from './onnxruntime.js'
import { isOutOfMemory } from './out-of-memory.js'
import type { CoreUse } from './shared-cores.js'

/** What another end was opened as. */
type Ending = LabelNetwork | PhaseNetwork

/**
 * `predictor` with `endingIn` and `inPhases`, which give nothing while others share the cores: a session has its number of threads for
 * good. `read` gives its network as messages, as it runs; undefined where it is too large for that.
 */
export function withEnds(
  predictor: Predictor,
  read: () => Promise<ChosenModel | undefined>,
  settings: OnnxSettings,
  cores: Readonly<CoreUse>,
): Predictor {
  // the config of a model wants one end
  let key: string | undefined
  let network: Promise<Ending | undefined> = Promise.resolve(undefined)
  const giveUp = async () => {
    const open = network
    network = Promise.resolve(undefined)
    await (await open)?.giveUp()
  }
  const ending = async <T extends Ending>(asked: string, open: () => Promise<T | undefined>) => {
    if (cores.shared) return undefined
    if (asked !== key) {
      await giveUp()
      key = asked
      network = open()
    }
    const found = (await network) as T | undefined
    return found && { ...found, giveUp }
  }
  return {
    ...predictor,
    endingIn: (output, end) =>
      ending(`${output} ${end.kind} ${end.kind === 'threshold' ? end.from : ''}`, () =>
        openLabels(predictor, read, settings, output, end),
      ),
    inPhases: (output) => ending(`${output} phases`, () => openPhases(predictor, read, settings, output)),
    async close() {
      await giveUp()
      await predictor.close()
    },
  }
}

/** Undefined where the graph or the engine does not take it, or the engine would not say the labels that we would. */
async function openLabels(
  predictor: Predictor,
  read: () => Promise<ChosenModel | undefined>,
  settings: OnnxSettings,
  output: string,
  end: LabelEnd,
): Promise<LabelNetwork | undefined> {
  const spec = predictor.outputs.find(({ name }) => name === output)
  const model = spec && (await read())?.model
  if (!spec || !model) return undefined
  const channels = typeof spec.dims[1] === 'number' ? spec.dims[1] : undefined
  const labels = endInLabels(model, { scores: output, rank: spec.dims.length, channels }, end)
  if (!labels) return undefined
  const opened = await openBeside(predictor, settings, model, () => saysOurs(end, settings))
  const dims = spec.dims.map((n, axis) => (axis === 1 && end.kind === 'argmax' ? 1 : n))
  return opened && { output: { ...labels, dims }, ...opened }
}

/** Undefined where the output does not come in phases. */
async function openPhases(
  predictor: Predictor,
  read: () => Promise<ChosenModel | undefined>,
  settings: OnnxSettings,
  output: string,
): Promise<PhaseNetwork | undefined> {
  const chosen = await read()
  const phases = chosen?.phased.get(output)
  if (!chosen || !phases) return undefined
  endInPhases(chosen.model, phases)
  const opened = await openBeside(predictor, settings, chosen.model, async () => true)
  return opened && { ...phases, ...opened }
}

/** `model` on the device of `predictor`, where it opens there and `holds`. */
async function openBeside(
  { device }: Predictor,
  settings: OnnxSettings,
  model: Model,
  holds: () => Promise<boolean>,
): Promise<Pick<Ending, 'run' | 'giveUp'> | undefined> {
  try {
    if (!(await holds())) return undefined
    const network = await createOnnxPredictor(writeModel(model), settings)
    if (network.device === device) return { run: network.run, giveUp: () => network.close() }
    await network.close()
    return undefined
  } catch (error) {
    if (isOutOfMemory(error)) throw error
    return undefined
  }
}

/** Classes and voxels of the scores on which the engine is asked. */
const [CLASSES, PLANE] = [5, 3 * 67]

/** Whether the engine, from the same scores, among them equal ones, infinities and NaN, says the labels that `reduceStretch` does. */
async function saysOurs(end: LabelEnd, settings: OnnxSettings): Promise<boolean> {
  const odd = [Number.NaN, Infinity, -Infinity, 0, -0, 1, 1, 2, ...(end.kind === 'threshold' ? around(end.from) : [])]
  const scores = Float32Array.from({ length: CLASSES * PLANE }, (_, i) => odd[(i * 7919 + (i >> 3)) % odd.length]!)
  const ours: Reduction = end.kind === 'argmax' ? end : { kind: 'threshold', at: end.from, activation: 'none' }
  const sink = makeSink(ours, CLASSES, PLANE)
  const stretch = { scores, start: 0, channelStride: PLANE, step: 1, channels: CLASSES, length: PLANE }
  reduceStretch(ours, stretch, sink, 0, PLANE)
  const theirs = await labelsOf({ dims: [1, CLASSES, 1, 3, PLANE / 3], data: scores }, end, settings)
  return theirs.length === sink.data.length && sink.data.every((label, i) => label === theirs[i])
}

/** The float nearest to `from`, and those beside it. */
function around(from: number): number[] {
  const bits = new Int32Array(Float32Array.of(from).buffer)
  return [-1, 0, 1].map((step) => new Float32Array(Int32Array.of(bits[0]! + step).buffer)[0]!)
}

async function labelsOf(scores: Tensor, end: LabelEnd, settings: OnnxSettings): Promise<Tensor['data']> {
  const { model, labels } = endAlone(scores.dims, end)
  const network = await createOnnxPredictor(writeModel(model), settings)
  try {
    return (await network.run({ x: scores }))[labels.name]!.data
  } finally {
    await network.close()
  }
}
