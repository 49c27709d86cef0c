/**
 * Windows put together where only the best class of each voxel is wanted: scores that stand alone are compared where they
 * lie, and the last window of several only reads their sum. With a hundred classes, whose scores keep the memory busy, that
 * moves less than half of what summing everything does.
 */
import { makeSink, type Sink } from '../transforms/reduction.js'
import type { Vec3 } from '../volume/volume.js'
import { type Turns, WindowMemory } from './window-memory.js'
import type { WindowScores } from './window-scores.js'
import type { WindowPlan } from './windows.js'

/** Of one network, or the sum of several. */
export class ArgmaxStitch {
  readonly sink: Sink
  readonly #memory: WindowMemory

  /**
   * `extent` is the image's size along the plan's axes, without its padding; `weights` say how much each voxel of a window
   * counts, equally where there are none; of each window come the scores of `members` networks.
   */
  constructor(
    private readonly plan: WindowPlan,
    private readonly extent: Vec3,
    private readonly channels: number,
    weights: Float32Array | undefined,
    private readonly members: number,
  ) {
    this.sink = makeSink({ kind: 'argmax' }, channels, extent[0] * extent[1] * extent[2])
    this.#memory = new WindowMemory(plan, summedBy(plan, channels, members), weights)
  }

  /** Whether the sums fit into the memory that they are made in. */
  static fits(plan: WindowPlan, channels: number, members: number): boolean {
    return WindowMemory.fits(plan, summedBy(plan, channels, members))
  }

  /** A window's scores. Windows come in the plan's order, those of a row from each network in turn. */
  add(member: number, scores: WindowScores, start: Vec3): void {
    const turns = this.#memory.turns(start)
    for (const turn of turns[0]) {
      const isFirst = turn.isFirst && member === 0
      const isLast = turn.isLast && member === this.members - 1
      for (let layer = turn.from; layer < turn.to; layer++) {
        for (let channel = 0; channel < this.channels; channel++) {
          scores.read(this.#memory, channel, layer)
          this.#memory.addLayer(start, layer, channel, isFirst, isLast)
        }
        if (isLast) this.#keepLabels(start, layer, turns)
      }
    }
  }

  /** Of one layer of a window, the labels to which no other window adds. */
  #keepLabels(start: Vec3, layer: number, [, rows, along]: Turns): void {
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
          const labels = this.#memory.labels.subarray(j * roi[2] + from, j * roi[2] + to)
          this.sink.data.set(labels, ((z + layer) * extent[1] + y + j) * extent[2] + x + from)
        }
      }
  }
}

function summedBy({ starts }: WindowPlan, channels: number, members: number) {
  return { channels, isSummed: starts.length * members > 1 }
}
