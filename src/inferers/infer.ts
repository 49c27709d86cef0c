/**
 * Running a network over an image: in one go, slice by slice when the network is 2-D and the image is not, or window by
 * window. The result lies in the tensor's own order (its last dimension fastest), as nothing is gained by moving scores.
 */

import type { LabelEnd, LabelNetwork, PhaseNetwork, Predict, Tensor, TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { askBeside } from '../transforms/new-grid.js'
import { cut, makeSink, type Reduction, reduceStretch, type Sink } from '../transforms/reduction.js'
import { ScoreRestorer } from '../transforms/restore-scores.js'
import type { Content, ImageField } from '../transforms/types.js'
import { withOwnValues } from '../transforms/value-table.js'
import { narrowed } from '../volume/label-array.js'
import { giveBack } from '../volume/room.js'
import { makeVolume, type Vec3, type Volume, type VoxelArray } from '../volume/volume.js'
import { ArgmaxStitch } from './argmax-stitch.js'
import { activated, added, type Ensemble, LayerMean, type Lend, scaled, sharesOf } from './ensemble.js'
import { copyLabels, isWhole, LabelStitch, labelTarget } from './label-stitch.js'
import { checkBox, copyBox, describe, type Layout, layoutOf, tensorData, tensorDims } from './layout.js'
import { type Padding, padLayouts } from './padding.js'
import { RepeatedWindows } from './repeated-windows.js'
import { LayerReducer, WindowSums } from './score-stitch.js'
import { isReadable, phasedScores, plainScores, wholeDims } from './window-scores.js'
import { gaussianWeights, nnunetWeights, planWindows, type WindowPlan } from './windows.js'

export interface NetworkInput {
  readonly spec: TensorSpec
  readonly field: ImageField
}

/** A scan's settings; lists count the spatial axes of the array that the window goes over. */
export interface Window {
  readonly roi: readonly number[]
  readonly overlap: number | readonly number[]
  readonly batchSize: number
  readonly blend: 'constant' | 'gaussian' | 'nnunet'
  /** Windows lie equally far apart, as nnU-Net has them, and not `overlap` apart up to the last. */
  readonly evenSteps?: boolean | undefined
  /** Sigma of the Gaussian as a fraction of the window; 1/8 by default. */
  readonly sigmaScale?: number | readonly number[] | undefined
  /** What an image smaller than the window is padded with: `fill` (0 by default), or the image continued as torch does. */
  readonly padding?: Padding | undefined
  readonly fill?: number | undefined
  /** The spatial axis of the array that a network of one dimension less goes through, slice by slice. */
  readonly sliceAxis?: number | undefined
  /** False: the network sees every window that holds one value a channel, and not just the first of them. */
  readonly skipEmpty?: boolean | undefined
}

/** Bytes of a window's scores from which on another session of the network, which ends in phases, pays. */
const LARGE_ANSWER = 2 ** 27

export interface InferenceRequest {
  /** The first one's grid is the result's. All have one size. */
  readonly inputs: readonly NetworkInput[]
  readonly output: TensorSpec
  readonly predict: Predict
  /** Several networks of the same tensors instead of `predict`, whose mean is the answer. */
  readonly ensemble?: Ensemble | undefined
  readonly reduction: Reduction
  /**
   * When scores go back to the file's grid before they become labels: who brings them there layer by layer, once it is
   * known how the network's volume lies (`from` and `size` as in NetworkResult) and how many channels it has; or, where
   * they cannot go layer by layer, what to do with them instead of `reduction`.
   */
  readonly restorer?:
    | ((from: NetworkResult['from'], size: Vec3, channels: number) => ScoreRestorer | Reduction)
    | undefined
  /**
   * The network with labels for scores, where there is one: taken where every voxel's labels come from one run of it and
   * nothing has to be done to scores before. `exact` says what labels those are where there is a way back: undefined, or
   * scores, where scores have to go back.
   */
  readonly labels?: ((end: LabelEnd) => Promise<LabelNetwork | undefined>) | undefined
  /** The network with its scores in phases, where there is one: taken where a window's answer is large. */
  readonly phases?: (() => Promise<PhaseNetwork | undefined>) | undefined
  readonly exact?: ((from: NetworkResult['from'], size: Vec3) => Reduction | undefined) | undefined
  /**
   * What the config says that the output holds. Absent: whole numbers (by the tensor's type) and tensors without a channel
   * dimension are labels, everything else is scores.
   */
  readonly content?: 'labels' | 'scores' | undefined
  /** Absent: the whole image at once. */
  readonly window?: Window | undefined
  /** A shape such as NDHWC, when the config names one. */
  readonly format?: string | undefined
  /** Called before every run with what is done and what is to do, and which network of an ensemble runs. */
  readonly onProgress: (done: number, total: number, member: number) => Promise<void>
}

export interface NetworkResult {
  /** Voxels in the tensor's order: x runs along its last dimension. The affine is still the image's and must be moved. */
  readonly volume: Volume
  /** Memory axis of the image along each axis of `volume`. */
  readonly from: readonly [0 | 1 | 2, 0 | 1 | 2, 0 | 1 | 2]
  readonly content: Content
  /** The volume is on the file's grid already, in the file's order of axes: the restorer's. */
  readonly restored?: boolean
}

/** One number per class instead of voxels, when the output has no spatial dimensions. */
export interface NetworkScores {
  readonly scores: readonly number[]
}

/** Runs the network. Rejects BAD_MODEL or BAD_PARAMS naming the tensor whose shape does not fit. */
export async function infer(request: InferenceRequest): Promise<NetworkResult | NetworkScores> {
  const slices = request.window?.sliceAxis
  const layouts = request.inputs.map(({ spec, field }) =>
    layoutOf(floatsFor(spec, field), spec, request.format, slices),
  )
  const main = layouts[0]!
  const odd = layouts.find(({ extent }) => extent.some((n, i) => n !== main.extent[i]))
  if (odd) {
    throw new AppError(
      'BAD_PARAMS',
      `the images for '${main.spec.name}' and '${odd.spec.name}' differ in size: ` +
        `${main.extent.join(' x ')} and ${odd.extent.join(' x ')}`,
    )
  }
  const plan = planFor(main, request)
  for (const layout of layouts) checkBox(layout, plan.roi, request.window ? 'the window (roi)' : 'the image')
  const isWholeImage = plan.starts.length === 1 && plan.roi.every((n, i) => n === main.extent[i])
  const run = async (one: InferenceRequest) => {
    if (isWholeImage) return inferWhole(one, layouts)
    const phased = await phaseNetwork(one, main, plan)
    return phased ? inferPhased(one, layouts, plan, phased) : inferWindows(one, layouts, plan)
  }
  const labels = await labelNetwork(request, main, plan)
  if (!labels) return run(request)
  const { output, run: predict } = labels
  const reduction = { kind: 'scores' } as const
  const result = await run({ ...request, output, predict, reduction, restorer: undefined, content: 'labels' })
  const [n0, n1, n2] = main.extent
  if ('volume' in result && result.volume.size.join() === [n2, n1, n0].join()) return result
  // scores of another size than the image's are resized before they become labels
  await labels.giveUp()
  return run(request)
}

/** Windows that share voxels add up scores; weights, and the way back between voxels, need them too. */
async function labelNetwork(
  { labels, exact, restorer, reduction, ensemble, window }: InferenceRequest,
  main: Layout,
  plan: WindowPlan,
): Promise<LabelNetwork | undefined> {
  if (!labels || ensemble || main.channelLast || sharesVoxels(plan)) return undefined
  if (window && window.blend !== 'constant' && plan.starts.length > 1) return undefined
  const [n0, n1, n2] = main.extent
  const kept = restorer ? exact?.(fromOf(main), [n2, n1, n0]) : reduction
  if (kept?.kind === 'argmax') return labels(kept)
  return kept?.kind === 'threshold' ? labels({ kind: 'threshold', from: cut(kept) }) : undefined
}

function sharesVoxels({ starts, roi }: WindowPlan): boolean {
  return roi.some((length, axis) => {
    const own = [...new Set(starts.map((start) => start[axis]!))].toSorted((a, b) => a - b)
    return own.some((start, i) => i > 0 && start < own[i - 1]! + length)
  })
}

/**
 * Copies into tensors meet these four types of array alone, else they become slow for good (see volume/blocks.ts). Scans
 * and pictures mostly are of one of them, and are not copied as a whole: windows take their values as they are.
 */
const COPIED_AS_THEY_ARE = [Float32Array, Uint8Array, Int16Array, Uint16Array]

function floatsFor({ type }: TensorSpec, given: ImageField): ImageField {
  const isFloat = type === 'float32' || type === 'float16'
  if (isFloat && given.valueTable) return given
  const field = withOwnValues(given)
  const { volume } = field
  if (COPIED_AS_THEY_ARE.some((kind) => volume.data instanceof kind) || type === 'float64') return field
  if (!isFloat) return field
  askBeside(field, 4 * volume.data.length, "the network's input")
  const data = new Float32Array(volume.data.length)
  data.set(volume.data)
  return { ...field, volume: { ...volume, data } }
}

function planFor(main: Layout, { window }: InferenceRequest): WindowPlan {
  const stepped = [0, 1, 2].slice(0, 3 - main.rank).map(() => 1)
  if (!window) return planWindows(main.extent, stepped, 0)
  const { sliceAxis } = window
  const roi = window.roi.length === 1 ? [0, 0, 0].map(() => window.roi[0]!) : window.roi
  const wish =
    roi.length === 3 && main.rank === 2
      ? roi.toSpliced(sliceAxis ?? Math.max(roi.indexOf(1), 0), 1)
      : roi.slice(-main.rank)
  return planWindows(main.extent, [...stepped, ...wish], perStep(main, window.overlap, sliceAxis), window.evenSteps)
}

/** One number for all axes, or one for each spatial axis of the array, laid out as `extent` is. */
function perStep({ rank }: Layout, value: number | readonly number[], sliceAxis: number | undefined): Vec3 {
  if (typeof value === 'number') return [value, value, value]
  if (value.length === 1) return [value[0]!, value[0]!, value[0]!]
  const inside = value.length > rank ? value.toSpliced(sliceAxis ?? value.indexOf(1), 1).slice(-rank) : value
  const stepped = [0, 0, 0].slice(0, 3 - inside.length)
  return [...stepped, ...inside] as unknown as Vec3
}

async function inferWhole(request: InferenceRequest, layouts: readonly Layout[]) {
  const main = layouts[0]!
  askForWhole(request.output, main)
  const feeds = feedsOf(layouts, [[0, 0, 0]], main.extent)
  const output = await wholeOutput(request, main, feeds)
  if (isScores(output.dims, main)) return { scores: Array.from(output.data) }
  const shape = readShape(output.dims, request.output, main)
  const [n0, n1, n2] = shape.extent
  const voxels = n0 * n1 * n2
  const { channels, channelStride, step } = shape
  askBeside(main.field, output.data.byteLength + answerBytes(request, shape) * voxels, "taking the network's answer")
  const last = membersOf(request).length
  await request.onProgress(last, last, last - 1)
  if (holdsLabels(request, shape)) {
    const labels = labelTarget(request.output.type, voxels * channels)
    for (let c = 0; c < channels; c++) copyLabels(output.data, c * channelStride, step, labels, c * voxels, voxels)
    return resultOf(main, shape.extent, { data: narrowed(labels), channels }, 'labels')
  }
  const after = afterRun(request, main, shape)
  if (after instanceof ScoreRestorer) {
    for (let layer = 0; layer < n0; layer++) {
      const start = layer * n1 * n2 * step
      after.add(layer, { scores: output.data, start, channelStride, rowStride: n2 * step, step })
    }
    return restoredOf(main, after, request.reduction)
  }
  const keep = after.kind === 'scores' && output.data instanceof Float32Array && step === 1
  if (keep) return resultOf(main, shape.extent, { data: output.data as VoxelArray, channels }, 'scores')
  const sink = makeSink(after, channels, voxels)
  const stretch = { scores: output.data, start: 0, channels, channelStride, step, length: voxels }
  reduceStretch(after, stretch, sink, 0, voxels)
  return resultOf(main, shape.extent, sink, contentOf(after))
}

/** The networks that answer, one after another. */
function membersOf({ ensemble, predict }: InferenceRequest): readonly Lend[] {
  return ensemble?.members ?? [(work) => work(predict)]
}

/** What one run over the whole image gives, or the mean of what each network gives. */
async function wholeOutput(request: InferenceRequest, main: Layout, feeds: Readonly<Record<string, Tensor>>) {
  const { ensemble } = request
  const members = membersOf(request)
  let sum: Tensor | undefined
  for (const [i, lend] of members.entries()) {
    await request.onProgress(i, members.length, i)
    const output = await lend(async (predict) => pickOutput(await predict(feeds), request.output))
    if (!ensemble) return output
    const each = output.data.length
    const scores = { channels: each, channelStride: 1, step: 1, each, hasChannels: true, extent: [1, 1, 1] as Vec3 }
    const shape = isScores(output.dims, main) ? scores : readShape(output.dims, request.output, main)
    if (!isScores(output.dims, main)) refuseLabels(request, shape)
    sum = added(
      sum,
      scaled(activated(output, shape, ensemble.activation), shape, sharesOf(ensemble, shape.channels)[i]!),
    )
  }
  return sum!
}

/** Throws BAD_MODEL: of labels there is no mean. */
function refuseLabels(request: InferenceRequest, shape: OutputShape): void {
  if (!holdsLabels(request, shape)) return
  throw new AppError('BAD_MODEL', `output '${request.output.name}' holds labels, of which there is no mean`, {
    hint: 'let the networks vote: inference.ensemble {"method": "vote"}',
  })
}

/** The tensors of a run over the whole image: what goes in, and what comes out as far as the network says how much. */
function askForWhole({ dims }: TensorSpec, main: Layout): void {
  const [n0, n1, n2] = main.extent
  const channels = dims.length === main.rank + 2 ? (main.channelLast ? dims.at(-1) : dims[1]) : 1
  const values = n0 * n1 * n2 * (main.channels + (typeof channels === 'number' ? channels : 1))
  askBeside(main.field, 4 * values, "the network's input and output")
}

/** What becomes of the scores: a network whose answer is of another size than the image keeps them, to be resized first. */
function afterRun(
  { restorer, reduction }: InferenceRequest,
  main: Layout,
  shape: OutputShape,
): ScoreRestorer | Reduction {
  if (!restorer) return reduction
  if (shape.extent.some((n, i) => n !== main.extent[i])) return { kind: 'scores' }
  const [n0, n1, n2] = main.extent
  return restorer(fromOf(main), [n2, n1, n0], shape.channels)
}

function restoredOf(main: Layout, restorer: ScoreRestorer, reduction: Reduction): NetworkResult {
  const { data, channels, size } = restorer.result()
  const volume = makeVolume(size, main.field.volume.affine, data, { channels })
  return { volume, from: fromOf(main), content: contentOf(reduction), restored: true }
}

function fromOf({ order }: Layout): NetworkResult['from'] {
  return [order[2], order[1], order[0]]
}

function contentOf({ kind }: Reduction): Content {
  return kind === 'scores' ? 'scores' : 'labels'
}

/**
 * Whether the output's values are labels, to be taken as they are. Throws BAD_MODEL for an argmax over one channel of
 * scores, which is 0 everywhere.
 */
function holdsLabels(
  { reduction, content, output }: InferenceRequest,
  { channels, hasChannels }: OutputShape,
): boolean {
  if (reduction.kind === 'threshold') return false
  if (reduction.kind === 'scores') return content ? content === 'labels' : !hasChannels || isWhole(output.type)
  if (channels > 1) return false
  // an argmax is stated, and the network has taken it already
  if (!hasChannels || isWhole(output.type)) return true
  throw new AppError(
    'BAD_MODEL',
    `output '${output.name}' has one channel of ${output.type}, and the config takes an argmax over its channels`,
    { hint: 'use a threshold for one score a voxel, or let the network give its labels as whole numbers' },
  )
}

/** `buffers` keeps the arrays of one run for the next, since a network has read its input when it answers. */
function feedsOf(
  layouts: readonly Layout[],
  starts: readonly Vec3[],
  box: Vec3,
  buffers?: Map<string, Tensor['data']>,
): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {}
  for (const layout of layouts) {
    const fixed = layout.spec.dims[0]
    if (typeof fixed === 'number' && fixed < starts.length) {
      throw new AppError(
        'BAD_MODEL',
        `input '${layout.spec.name}' is ${describe(layout.spec)}: batches of ${fixed} only`,
      )
    }
    const dims = tensorDims(layout, typeof fixed === 'number' ? fixed : starts.length, box)
    const own = ownTensor(layout, dims, starts, box)
    if (own) {
      feeds[layout.spec.name] = { dims, data: own }
      continue
    }
    const length = dims.reduce((product, dim) => product * dim, 1)
    const known = buffers?.get(layout.spec.name)
    const data = known?.length === length ? known.fill(0) : tensorData(layout.spec.type, length)
    buffers?.set(layout.spec.name, data as Tensor['data'])
    const each = box[0] * box[1] * box[2] * layout.channels
    starts.forEach((start, i) => {
      copyBox(layout, start, box, data as Tensor['data'], i * each)
    })
    feeds[layout.spec.name] = { dims, data: data as Tensor['data'] }
  }
  return feeds
}

/** The image's own voxels, when they are the tensor already: all of them, as floats, in its order. */
function ownTensor(
  { field, order, spec, channelLast, extent }: Layout,
  dims: readonly number[],
  starts: readonly Vec3[],
  box: Vec3,
): Float32Array | undefined {
  const whole = starts.length === 1 && dims[0] === 1 && box.every((n, i) => n === extent[i] && starts[0]![i] === 0)
  const inOrder = order[0] === 2 && order[1] === 1 && !(channelLast && field.volume.channels > 1)
  const { data } = field.volume
  return whole && inOrder && spec.type === 'float32' && data instanceof Float32Array ? data : undefined
}

function pickOutput(outputs: Readonly<Record<string, Tensor>>, spec: TensorSpec): Tensor {
  const tensor = outputs[spec.name]
  if (tensor) return tensor
  throw new AppError('BAD_MODEL', `the network gave no output '${spec.name}', only ${Object.keys(outputs).join(', ')}`)
}

function isScores(dims: readonly number[], main: Layout): boolean {
  return dims.slice(2).every((dim) => dim === 1) && main.extent.some((n) => n > 1)
}

interface OutputShape {
  readonly extent: Vec3
  readonly channels: number
  readonly channelStride: number
  readonly step: number
  /** Values of one item of the batch. */
  readonly each: number
  readonly hasChannels: boolean
}

function readShape(dims: readonly number[], spec: TensorSpec, main: Layout): OutputShape {
  const hasChannels = dims.length === main.rank + 2
  if (!hasChannels && dims.length !== main.rank + 1) {
    throw new AppError('BAD_MODEL', `output '${spec.name}' came as [${dims.join(', ')}], which is no map of the image`)
  }
  const spatial = !hasChannels ? dims.slice(1) : main.channelLast ? dims.slice(1, -1) : dims.slice(2)
  const extent = [1, 1, 1, ...spatial].slice(-3) as unknown as Vec3
  const voxels = extent[0] * extent[1] * extent[2]
  const channels = !hasChannels ? 1 : main.channelLast ? dims.at(-1)! : dims[1]!
  const step = main.channelLast && hasChannels ? channels : 1
  return { extent, channels, channelStride: step === 1 ? voxels : 1, step, each: voxels * channels, hasChannels }
}

async function inferWindows(request: InferenceRequest, layouts: readonly Layout[], plan: WindowPlan) {
  const main = layouts[0]!
  const { starts, roi } = plan
  const fixed = main.spec.dims[0]
  const { window, ensemble } = request
  const batch = typeof fixed === 'number' ? fixed : Math.max(1, window?.batchSize ?? 1)
  const weights = weightsFor(request, main, roi)
  const padded = window ? padLayouts(layouts, plan, window) : undefined
  const shift: Vec3 = padded ? [0, 0, 0] : plan.before
  const buffers = new Map<string, Tensor['data']>()
  const members = membersOf(request)
  const total = starts.length * members.length
  let done = 0
  let stitch: ScoreStitch | LabelStitch | undefined
  let shape: OutputShape | undefined
  /** A function of its own: its frame, which would keep the answer alive, is gone when the next run begins. */
  const scan = async (predict: Predict, member: number, batched: readonly Vec3[], repeated?: RepeatedWindows) => {
    const windows = batched.map((start) => {
      const place = start.map((value, i) => value - shift[i]!) as unknown as Vec3
      const key = repeated?.keyOf(place)
      return { start, place, key, answer: repeated?.answer(key) }
    })
    const unseen = windows.filter(({ answer }) => answer === undefined)
    let scores: Tensor['data'] | undefined
    if (unseen.length > 0) {
      const places = unseen.map(({ place }) => place)
      const output = pickOutput(await predict(feedsOf(padded ?? layouts, places, roi, buffers)), request.output)
      shape = windowShape(output.dims, request, main, roi)
      if (!stitch) askForStitch(request, main, plan, shape)
      stitch ??= stitchFor(request, main, plan, shape, weights)
      scores = stitch instanceof LabelStitch ? output.data : stitch.weighted(member, output).data
    }
    const { each } = shape!
    for (const one of windows) {
      const { start, key, answer } = one
      const from = answer ? 0 : unseen.indexOf(one) * each
      if (stitch instanceof LabelStitch) stitch.add(answer ?? scores!, from, start)
      else stitch!.add(member, answer ?? scores!, from, start)
      if (!answer) repeated?.keep(key, scores!, from, each)
    }
    return scores?.byteLength ?? 0
  }
  // every network takes its turn over windows side by side, so that what overlaps stays few and networks are opened seldom
  for (const row of ensemble ? rowsOf(starts) : [starts])
    for (const [member, lend] of members.entries())
      await lend(async (predict) => {
        const repeated = window?.skipEmpty === false ? undefined : new RepeatedWindows(padded ?? layouts, roi)
        for (let first = 0; first < row.length; first += batch) {
          await request.onProgress(done, total, member)
          const windows = row.slice(first, first + batch)
          giveBack(await scan(predict, member, windows, repeated))
          done += windows.length
        }
      })
  await request.onProgress(total, total, members.length - 1)
  if (!(stitch instanceof LabelStitch)) return stitch!.finish()
  const [n0, n1, n2] = main.extent
  const sink = { data: narrowed(stitch.target), channels: stitch.target.length / (n0 * n1 * n2) }
  return resultOf(main, main.extent, sink, 'labels')
}

/** How much each voxel of a window counts; all as much where there are none. */
function weightsFor({ window }: InferenceRequest, main: Layout, roi: Vec3): Float32Array | undefined {
  if (window?.blend === 'gaussian')
    return gaussianWeights(roi, perStep(main, window.sigmaScale ?? 0.125, window.sliceAxis))
  return window?.blend === 'nnunet' ? nnunetWeights(roi) : undefined
}

/**
 * The network whose answers come in phases, where there is one and a window's answer is so large that putting phases between
 * each other takes time: the argmax over overlapping windows then does it on its way.
 */
async function phaseNetwork(
  request: InferenceRequest,
  main: Layout,
  plan: WindowPlan,
): Promise<PhaseNetwork | undefined> {
  const { phases, window, reduction, restorer, ensemble, content, output } = request
  const channels = output.dims[1]
  if (!phases || !window || ensemble || restorer || reduction.kind !== 'argmax' || content === 'labels')
    return undefined
  if (main.rank !== 3 || main.channelLast || output.dims.length !== 5 || typeof channels !== 'number') return undefined
  const [deep, high, wide] = plan.roi
  if (channels < 2 || 4 * channels * deep * high * wide < LARGE_ANSWER) return undefined
  if (!ArgmaxStitch.fits(plan, channels, 1)) return undefined
  const network = await phases()
  return network && isReadable(network, plan.roi) ? network : undefined
}

/** The same windows, and the same labels, as of a network whose scores are put between each other. */
async function inferPhased(
  request: InferenceRequest,
  layouts: readonly Layout[],
  plan: WindowPlan,
  network: PhaseNetwork,
): Promise<NetworkResult> {
  const main = layouts[0]!
  const { starts, roi } = plan
  const channels = request.output.dims[1] as number
  const fixed = main.spec.dims[0]
  const batch = typeof fixed === 'number' ? fixed : Math.max(1, request.window!.batchSize)
  const padded = padLayouts(layouts, plan, request.window!)
  const shift: Vec3 = padded ? [0, 0, 0] : plan.before
  const buffers = new Map<string, Tensor['data']>()
  const shape = readShape([1, channels, ...roi], request.output, main)
  askForStitch(request, main, plan, shape)
  const stitch = new ArgmaxStitch(plan, main.extent, channels, weightsFor(request, main, roi), 1)
  /** A function of its own: its frame, which would keep the answer alive, is gone when the next run begins. */
  const scan = async (windows: readonly Vec3[]) => {
    const places = windows.map((start) => start.map((value, i) => value - shift[i]!) as unknown as Vec3)
    const outputs = await network.run(feedsOf(padded ?? layouts, places, roi, buffers))
    windowShape(wholeDims(outputs, network), request, main, roi)
    for (const [i, start] of windows.entries()) stitch.add(0, phasedScores(outputs, network, channels, roi, i), start)
  }
  for (let first = 0; first < starts.length; first += batch) {
    await request.onProgress(first, starts.length, 0)
    const windows = starts.slice(first, first + batch)
    await scan(windows)
    giveBack(4 * shape.each * windows.length)
  }
  await request.onProgress(starts.length, starts.length, 0)
  return resultOf(main, main.extent, stitch.sink, 'labels')
}

/** Windows that begin in the same layer of the slowest axis. */
function rowsOf(starts: readonly Vec3[]): Vec3[][] {
  const rows = new Map<number, Vec3[]>()
  for (const start of starts) rows.set(start[0], [...(rows.get(start[0]) ?? []), start])
  return [...rows.values()]
}

/** Throws BAD_MODEL when the output is no map of the window. */
function windowShape(dims: readonly number[], request: InferenceRequest, main: Layout, roi: Vec3): OutputShape {
  const { name } = request.output
  if (isScores(dims, main))
    throw new AppError('BAD_MODEL', `output '${name}' is one value per class: it cannot be scanned`)
  const shape = readShape(dims, request.output, main)
  if (shape.extent.some((n, i) => n !== roi[i]))
    throw new AppError(
      'BAD_MODEL',
      `output '${name}' is ${shape.extent.join(' x ')} for a window of ${roi.join(' x ')}`,
    )
  return shape
}

/** The open layers of summed windows, and what they are reduced to. */
function askForStitch(request: InferenceRequest, main: Layout, { roi, padded }: WindowPlan, shape: OutputShape): void {
  const [n0, n1, n2] = main.extent
  const answer = 4 * shape.channels * roi[0] * roi[1] * roi[2]
  const layers = 4 * (shape.channels + 1) * roi[0] * padded[1] * padded[2]
  const open = answer + layers * membersOf(request).length
  askBeside(main.field, open + answerBytes(request, shape) * n0 * n1 * n2, "putting the network's answer together")
}

/** Bytes a voxel of what is kept of the network's answer: labels, those of 32 bits once more in fewer, or all scores. */
function answerBytes(request: InferenceRequest, shape: OutputShape): number {
  const { channels } = shape
  if (holdsLabels(request, shape)) return channels * (labelTarget(request.output.type, 0) instanceof Uint8Array ? 1 : 6)
  const { kind } = request.reduction
  return kind === 'argmax' ? (channels > 256 ? 2 : 1) : kind === 'threshold' ? channels : 4 * channels
}

/** Where windows are put together, as what they hold wants it. */
function stitchFor(
  request: InferenceRequest,
  main: Layout,
  plan: WindowPlan,
  shape: OutputShape,
  weights: Float32Array | undefined,
): ScoreStitch | LabelStitch {
  if (!holdsLabels(request, shape)) return new ScoreStitch(request, main, plan, shape, weights)
  if (request.ensemble) refuseLabels(request, shape)
  const [n0, n1, n2] = main.extent
  const target = labelTarget(request.output.type, n0 * n1 * n2 * shape.channels)
  return new LabelStitch(target, plan, shape, main.extent)
}

/** The windows of all networks, put together. */
class ScoreStitch {
  readonly #end: ScoreRestorer | LayerReducer | ArgmaxStitch
  /** One for all networks whose scores are added up, or one for each where probabilities are; none where the end does it itself. */
  readonly #stitches: readonly WindowSums[] = []
  readonly #shares: readonly Float64Array[] | undefined

  constructor(
    private readonly request: InferenceRequest,
    private readonly main: Layout,
    plan: WindowPlan,
    private readonly shape: OutputShape,
    weights: Float32Array | undefined,
  ) {
    const { ensemble } = request
    const { extent } = main
    // windows cover the whole image, whose size the stitched scores then have
    const after = afterRun(request, main, { ...shape, extent })
    const apart = ensemble !== undefined && ensemble.activation !== 'none'
    this.#shares = ensemble && !apart ? sharesOf(ensemble, shape.channels) : undefined
    const isArgmax = !(after instanceof ScoreRestorer) && after.kind === 'argmax' && !apart
    const { length } = membersOf(request)
    if (isArgmax && shape.step === 1 && ArgmaxStitch.fits(plan, shape.channels, length)) {
      this.#end = new ArgmaxStitch(plan, extent, shape.channels, weights, length)
      return
    }
    const end = after instanceof ScoreRestorer ? after : new LayerReducer(after, shape.channels, extent)
    this.#end = end
    const mean = apart ? new LayerMean(end, ensemble, shape.channels, extent) : undefined
    // dividing every class of a voxel by one number changes no argmax
    const counts = apart || after instanceof ScoreRestorer || after.kind !== 'argmax'
    this.#stitches = mean
      ? ensemble!.members.map((_, i) => new WindowSums(plan, extent, shape, weights, mean.member(i), counts))
      : [new WindowSums(plan, extent, shape, weights, end, counts)]
  }

  /** A network's output as its part of the mean. */
  weighted(member: number, output: Tensor): Tensor {
    const shares = this.#shares?.[member]
    return shares ? scaled(output, this.shape, shares) : output
  }

  /** A window's weighted scores, which begin at `from`. */
  add(member: number, scores: Tensor['data'], from: number, start: Vec3): void {
    if (this.#end instanceof ArgmaxStitch) {
      this.#end.add(member, plainScores(scores, from, this.shape.channelStride), start)
      return
    }
    const stitch = this.#stitches[member] ?? this.#stitches[0]!
    stitch.add(scores, from, start, member === 0 || this.#stitches.length > 1)
  }

  finish(): NetworkResult {
    for (const stitch of this.#stitches) stitch.finish()
    const end = this.#end
    if (end instanceof ScoreRestorer) return restoredOf(this.main, end, this.request.reduction)
    const content = end instanceof ArgmaxStitch ? 'labels' : contentOf(end.reduction)
    return resultOf(this.main, this.main.extent, end.sink, content)
  }
}

function resultOf(main: Layout, extent: Vec3, sink: Sink, content: Content): NetworkResult {
  const size: Vec3 = [extent[2], extent[1], extent[0]]
  const volume = makeVolume(size, main.field.volume.affine, sink.data, { channels: sink.channels })
  return { volume, from: fromOf(main), content }
}
