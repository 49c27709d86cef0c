/**
 * Sums of overlapping windows in the memory of a WebAssembly module (window-kernel.wat), which adds four scores at once.
 * Which windows hold a voxel is known from the start, so each window knows where it is the first one, which writes sums
 * without reading them, and where it is the last one, to whose scores nothing will be added.
 */
import type { Tensor } from '../contract/tensor.js'
import type { Vec3 } from '../volume/volume.js'
import { WINDOW_KERNEL } from './window-kernel.js'
import type { WindowPlan } from './windows.js'

/** Bytes of a float and of a label here. */
const EACH = 4
/** WebAssembly's pages, and how many of them its addresses reach. */
const [PAGE_BYTES, MOST_PAGES] = [2 ** 16, 2 ** 16]

/** Voxels `from` to `to` of a window along one axis, and whether along it no window before, or after, holds them too. */
export interface Turn {
  readonly from: number
  readonly to: number
  readonly isFirst: boolean
  readonly isLast: boolean
}

/** Along each axis of a window, first axis slowest. */
export type Turns = readonly [layers: readonly Turn[], rows: readonly Turn[], along: readonly Turn[]]

/** Addresses in the kernel's memory: one layer of a window each, the weights of a whole window, the sums. */
interface Places {
  readonly scores: number
  readonly best: number
  readonly labels: number
  /** Halves of a layer, before they are put between each other. */
  readonly halves: readonly [number, number]
  readonly weights: number
  readonly sums: number
  readonly end: number
}

interface Kernel {
  add(
    ...args: readonly [
      ...[scores: number, weights: number, best: number, labels: number, at: number, row: number],
      ...[sums: number, sumsRow: number, rows: number, length: number],
      ...[channel: number, first: number, last: number],
    ]
  ): void
  weave(left: number, right: number, to: number, toRow: number, rows: number, length: number): void
}

/** Scores somewhere in an array. */
export interface Stretch {
  readonly data: Tensor['data']
  readonly from: number
}

/** What is summed: scores of so many channels, where windows share voxels or several networks answer. */
export interface Summed {
  readonly channels: number
  readonly isSummed: boolean
}

export class WindowMemory {
  /**
   * The sums of as many layers as a window is deep, used in turn: by channel, then layer (modulo the window's depth), rows
   * as long as the padded image's. Empty where nothing is summed.
   */
  readonly sums: Float32Array
  /** The best class so far of each voxel of one layer of a window. */
  readonly labels: Int32Array
  /** Voxels of one layer of a window. */
  readonly plane: number
  readonly #plan: WindowPlan
  readonly #turns: readonly ReadonlyMap<number, readonly Turn[]>[]
  readonly #places: Places
  readonly #kernel: Kernel
  readonly #scores: Float32Array
  readonly #halves: readonly Float32Array[]

  /** `weights` say how much each voxel of a window counts, equally where there are none. Throws where it does not fit. */
  constructor(plan: WindowPlan, summed: Summed, weights: Float32Array | undefined) {
    const { roi, starts } = plan
    const plane = roi[1] * roi[2]
    const places = placesOf(plan, summed)
    // Pages take room when they are first written: sums that nothing is added to never do.
    const memory = new WebAssembly.Memory({ initial: Math.ceil(places.end / PAGE_BYTES) })
    this.#plan = plan
    this.plane = plane
    this.#places = places
    this.#turns = roi.map((length, axis) => turnsOf([...new Set(starts.map((start) => start[axis]!))], length))
    this.#kernel = new WebAssembly.Instance(kernelModule(), { host: { memory } }).exports as unknown as Kernel
    this.#scores = new Float32Array(memory.buffer, places.scores, plane)
    this.#halves = places.halves.map((at) => new Float32Array(memory.buffer, at, plane >> 1))
    this.labels = new Int32Array(memory.buffer, places.labels, plane)
    this.sums = new Float32Array(memory.buffer, places.sums, (places.end - places.sums) / EACH)
    const counts = new Float32Array(memory.buffer, places.weights, roi[0] * plane)
    if (weights) counts.set(weights)
    else counts.fill(1)
  }

  static fits(plan: WindowPlan, summed: Summed): boolean {
    return placesOf(plan, summed).end <= MOST_PAGES * PAGE_BYTES
  }

  /** Of the window at `start`. */
  turns(start: Vec3): Turns {
    return start.map((value, axis) => this.#turns[axis]!.get(value)!) as unknown as Turns
  }

  /** Takes one layer of a window in one channel, row by row, which `addLayer` then adds. */
  read({ data, from }: Stretch): void {
    this.#scores.set(data.subarray(from, from + this.plane))
  }

  /**
   * The same of every `step`-th row from `row` on, whose even voxels and odd voxels lie in two stretches. The depth of a
   * window's rows is a multiple of `step`, their length even.
   */
  readHalves(row: number, step: number, even: Stretch, odd: Stretch): void {
    const [, height, width] = this.#plan.roi
    const [rows, length] = [height / step, width / 2]
    for (const [i, { data, from }] of [even, odd].entries())
      this.#halves[i]!.set(data.subarray(from, from + rows * length))
    const { halves, scores } = this.#places
    this.#kernel.weave(...halves, scores + EACH * row * width, EACH * step * width, rows, EACH * length)
  }

  /**
   * Adds what was read as one layer of the window at `start` in one channel. `isFirst`: nothing has been added there
   * before, but by windows beside it. `isLast`: nothing will be, but by windows beside it; where it is the last of them too,
   * sums are compared with the best so far instead of written. Channels then come in their order.
   */
  addLayer(start: Vec3, layer: number, channel: number, isFirst: boolean, isLast: boolean): void {
    const { roi, padded } = this.#plan
    const places = this.#places
    const [, rows, along] = this.turns(start)
    const ring = channel * roi[0] + ((start[0] + layer) % roi[0])
    for (const row of rows)
      for (const run of along) {
        const to = (ring * padded[1] + start[1] + row.from) * padded[2] + start[2] + run.from
        this.#kernel.add(
          places.scores,
          places.weights + EACH * layer * this.plane,
          places.best,
          places.labels,
          EACH * (row.from * roi[2] + run.from),
          EACH * roi[2],
          places.sums + EACH * to,
          EACH * padded[2],
          row.to - row.from,
          EACH * (run.to - run.from),
          channel,
          Number(isFirst && row.isFirst && run.isFirst),
          Number(isLast && row.isLast && run.isLast),
        )
      }
  }
}

function placesOf({ roi, padded }: WindowPlan, { channels, isSummed }: Summed): Places {
  const plane = EACH * roi[1] * roi[2]
  const [scores, best, labels, even, weights] = [0, plane, 2 * plane, 3 * plane, 4 * plane]
  const halves = [even, even + EACH * ((roi[1] * roi[2]) >> 1)] as const
  const sums = weights + plane * roi[0]
  return {
    scores,
    best,
    labels,
    halves,
    weights,
    sums,
    end: sums + (isSummed ? EACH * channels * roi[0] * padded[1] * padded[2] : 0),
  }
}

/** Windows of `length` voxels at `starts`, in rising order, cut where another one begins or ends. */
function turnsOf(starts: readonly number[], length: number): ReadonlyMap<number, readonly Turn[]> {
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
