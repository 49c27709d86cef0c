/**
 * Windows put together where only the best class of each voxel is wanted. Which windows hold a voxel is known from the
 * start, so each window knows where it is the first or the last one: scores to which nothing is added are compared where
 * they lie, and sums are written once by the first window and only read by the last. With a hundred classes, whose scores
 * keep the memory busy, that moves less than half of what summing everything does. The loops are WebAssembly
 * (window-kernel.wat), which handles four scores at once.
 */
import type { Tensor } from '../contract/tensor.js'
import { makeSink, type Sink } from '../transforms/reduction.js'
import type { Vec3 } from '../volume/volume.js'
import type { ScoreLayout } from './score-stitch.js'
import { WINDOW_KERNEL } from './window-kernel.js'
import type { WindowPlan } from './windows.js'

/** Bytes of a float and of a label here. */
const EACH = 4
/** WebAssembly's pages, and how many of them its addresses reach. */
const [PAGE_BYTES, MOST_PAGES] = [2 ** 16, 2 ** 16]

/** Voxels `from` to `to` of a window along one axis, and whether along it no window before, or after, holds them too. */
interface Turn {
  readonly from: number
  readonly to: number
  readonly isFirst: boolean
  readonly isLast: boolean
}

/** By where a window starts. */
type Turns = ReadonlyMap<number, readonly Turn[]>

/** Addresses in the kernel's memory: one layer of a window each, the weights of a whole window, the sums. */
interface Places {
  readonly scores: number
  readonly best: number
  readonly labels: number
  readonly weights: number
  readonly sums: number
  readonly end: number
}

type Kernel = (
  ...args: readonly [
    ...[scores: number, weights: number, best: number, labels: number, at: number, row: number],
    ...[sums: number, sumsRow: number, rows: number, length: number],
    ...[channel: number, first: number, last: number],
  ]
) => void

/** Whether the sums of so many channels and networks fit into a kernel's memory. */
export function fitsArgmaxStitch(plan: WindowPlan, channels: number, members: number): boolean {
  return placesOf(plan, channels, members).end <= MOST_PAGES * PAGE_BYTES
}

/** Scores whose channels lie one behind the other (a step of 1), of one network or the sum of several. */
export class ArgmaxStitch {
  readonly sink: Sink
  readonly #turns: readonly Turns[]
  readonly #places: Places
  readonly #kernel: Kernel
  /** One layer of a window: its scores in one channel, and the best classes so far. */
  readonly #scores: Float32Array
  readonly #labels: Int32Array

  /**
   * `extent` is the image's size along the plan's axes, without its padding; `weights` say how much each voxel of a window
   * counts, equally where there are none; of each window come the scores of `members` networks.
   */
  constructor(
    private readonly plan: WindowPlan,
    private readonly extent: Vec3,
    private readonly shape: ScoreLayout,
    weights: Float32Array | undefined,
    private readonly members: number,
  ) {
    const { roi, starts } = plan
    const { channels } = shape
    this.sink = makeSink({ kind: 'argmax' }, channels, extent[0] * extent[1] * extent[2])
    this.#turns = roi.map((length, axis) => turnsOf([...new Set(starts.map((start) => start[axis]!))], length))
    this.#places = placesOf(plan, channels, members)
    // Pages take room when they are first written: sums that nothing is added to never do.
    const memory = new WebAssembly.Memory({ initial: Math.ceil(this.#places.end / PAGE_BYTES) })
    this.#kernel = new WebAssembly.Instance(kernelModule(), { host: { memory } }).exports.add as Kernel
    this.#scores = new Float32Array(memory.buffer, this.#places.scores, roi[1] * roi[2])
    this.#labels = new Int32Array(memory.buffer, this.#places.labels, roi[1] * roi[2])
    const counts = new Float32Array(memory.buffer, this.#places.weights, roi[0] * roi[1] * roi[2])
    if (weights) counts.set(weights)
    else counts.fill(1)
  }

  /** A window's scores, which begin at `offset`. Windows come in the plan's order, those of a row from each network in turn. */
  add(member: number, scores: Tensor['data'], offset: number, start: Vec3): void {
    const { roi } = this.plan
    const plane = roi[1] * roi[2]
    const [layers, rows, along] = start.map((value, axis) => this.#turns[axis]!.get(value)!) as [Turn[], Turn[], Turn[]]
    for (const turn of layers) {
      const isFirst = turn.isFirst && member === 0
      const isLast = turn.isLast && member === this.members - 1
      for (let layer = turn.from; layer < turn.to; layer++) {
        for (let channel = 0; channel < this.shape.channels; channel++) {
          const from = offset + channel * this.shape.channelStride + layer * plane
          this.#scores.set(scores.subarray(from, from + plane))
          for (const row of rows)
            for (const run of along)
              this.#addRows(
                start,
                layer,
                channel,
                row,
                run,
                isFirst && row.isFirst && run.isFirst,
                isLast && row.isLast && run.isLast,
              )
        }
        if (isLast) this.#keepLabels(start, layer, rows, along)
      }
    }
  }

  /** Rows `row` of one layer of a window, of each of them voxels `run`. */
  #addRows(start: Vec3, layer: number, channel: number, row: Turn, run: Turn, isFirst: boolean, isLast: boolean): void {
    const { scores, weights, best, labels, sums } = this.#places
    const { roi, padded } = this.plan
    const ring = channel * roi[0] + ((start[0] + layer) % roi[0])
    const to = (ring * padded[1] + start[1] + row.from) * padded[2] + start[2] + run.from
    this.#kernel(
      scores,
      weights + EACH * layer * roi[1] * roi[2],
      best,
      labels,
      EACH * (row.from * roi[2] + run.from),
      EACH * roi[2],
      sums + EACH * to,
      EACH * padded[2],
      row.to - row.from,
      EACH * (run.to - run.from),
      channel,
      Number(isFirst),
      Number(isLast),
    )
  }

  /** Of one layer of a window, the labels to which no other window adds. */
  #keepLabels(start: Vec3, layer: number, rows: readonly Turn[], along: readonly Turn[]): void {
    const { roi, before } = this.plan
    const { extent } = this
    const [z, y, x] = start.map((value, axis) => value - before[axis]!) as [number, number, number]
    if (z + layer < 0 || z + layer >= extent[0]) return
    for (const row of rows.filter(({ isLast }) => isLast))
      for (const run of along.filter(({ isLast }) => isLast)) {
        const from = Math.max(run.from, -x)
        const to = Math.min(run.to, extent[2] - x)
        if (from >= to) continue
        for (let j = Math.max(row.from, -y); j < Math.min(row.to, extent[1] - y); j++) {
          const labels = this.#labels.subarray(j * roi[2] + from, j * roi[2] + to)
          this.sink.data.set(labels, ((z + layer) * extent[1] + y + j) * extent[2] + x + from)
        }
      }
  }
}

function placesOf({ roi, padded, starts }: WindowPlan, channels: number, members: number): Places {
  const plane = EACH * roi[1] * roi[2]
  const [scores, best, labels, weights] = [0, plane, 2 * plane, 3 * plane]
  const sums = weights + plane * roi[0]
  // as many layers as a window is deep, used in turn: by channel, then layer
  const summed = starts.length * members > 1 ? EACH * channels * roi[0] * padded[1] * padded[2] : 0
  return { scores, best, labels, weights, sums, end: sums + summed }
}

/** Windows of `length` voxels at `starts`, in rising order, cut where another one begins or ends. */
function turnsOf(starts: readonly number[], length: number): Turns {
  return new Map(
    starts.map((start, i) => {
      const ours = i > 0 ? Math.max(0, starts[i - 1]! + length - start) : 0
      const theirs = i + 1 < starts.length ? Math.min(length, starts[i + 1]! - start) : length
      const cuts = [...new Set([0, ours, theirs, length])].toSorted((a, b) => a - b)
      const turns = cuts.slice(1).map((to, n) => {
        const from = cuts[n]!
        return { from, to, isFirst: from >= ours, isLast: to <= theirs }
      })
      return [start, turns]
    }),
  )
}

let compiled: WebAssembly.Module | undefined

function kernelModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(Buffer.from(WINDOW_KERNEL, 'base64'))
  return compiled
}
