/** Six extreme points of a structure for a dextr3d model: one at each end of each axis. The sixth runs the model. */
import { maskOf, RESULT_PARAMS, takeOver } from './answer.js'
import type { RequestState } from './api.js'
import { makeSvg } from './dom.js'
import type { Vec3 } from './geometry.js'
import type { Opener } from './open.js'
import { colorFor } from './store.js'
import type { Hit, Tool } from './tool.js'
import type { Tile } from './viewer.js'
import type { Workbench } from './workbench.js'

/** Sides of the patient, with the letters that the edges of the slices carry. */
const NAMES = ['left (L)', 'right (R)', 'front (A)', 'back (P)', 'top (S)', 'bottom (I)'] as const

export class ExtremesTool implements Tool {
  readonly #bench: Workbench
  readonly #opener: Opener

  constructor(bench: Workbench, opener: Opener) {
    this.#bench = bench
    this.#opener = opener
  }

  hint(): string {
    const model = this.#bench.modelFor('extremes')
    if (!model) return 'No model for extreme points is loaded on this server, or the image is a picture.'
    const { length } = this.#bench.store.doc.extremes
    const name = NAMES[length]
    if (name === undefined) return `${model.name} computes.`
    return `${model.name}, point ${length + 1} of 6: click the structure's outermost voxel towards the patient's ${name}. Right click takes the last one back.`
  }

  down(hit: Hit): boolean {
    this.enter(hit)
    return true
  }

  enter({ voxel, alternate }: Hit): void {
    const { store, viewer } = this.#bench
    const { extremes } = store.doc
    if (alternate) {
      if (extremes.length > 0) store.change('take a point back', { extremes: extremes.slice(0, -1) })
      return
    }
    if (extremes.length >= NAMES.length || !this.#bench.modelFor('extremes')) return
    viewer.crosshair = voxel
    store.change('extreme point', { extremes: [...extremes, voxel] })
    if (store.doc.extremes.length === NAMES.length) void this.#run()
  }

  marks(tile: Tile): SVGElement[] {
    return this.#bench.store.doc.extremes.flatMap((voxel, i) => {
      if (voxel[tile.across] !== tile.slice) return []
      const [x, y] = tile.toScreen(voxel)
      return [
        makeSvg('circle', { class: 'extreme', cx: x, cy: y, r: 7 }),
        makeSvg('text', { class: 'number', x, y: y + 3.5 }, String(i + 1)),
      ]
    })
  }

  async #run(): Promise<void> {
    const { api, job, scan, store } = this.#bench
    const model = this.#bench.modelFor('extremes')
    if (!scan || !model) return
    const points: readonly Vec3[] = store.doc.extremes
    try {
      await job.run(`${model.name} starts`, async (signal) => {
        const params = { points, ...RESULT_PARAMS }
        const follow = (state: RequestState) => job.follow(model.name, state)
        const answer = await this.#bench.asking(model, (image) =>
          api.watch('dextr3d', model.name, scan.session, { ...params, ...image }, follow, signal),
        )
        this.#bench.note(
          `${model.name} ${Math.round(answer.elapsed)} ms on ${answer.device} request ${answer.requestId}`,
        )
        const mask = await maskOf(answer, store.labels.size)
        const id = store.freeLabel()
        if (id === undefined) throw new RangeError('there are no more than 255 segments')
        const segment = { id, name: `Segment ${id}`, color: colorFor(id), visible: true, model: model.name }
        const ids = new Map(mask.labels.map(({ value }) => [value, id]))
        const patch = mask.box && { box: mask.box, labels: takeOver(store.labels, mask.box, mask, ids) }
        store.change(
          `run ${model.name}`,
          { segments: [...store.doc.segments, segment], active: id, extremes: [] },
          patch,
        )
      })
    } catch (error) {
      this.#opener.complain(error)
    }
    // Called off or refused: the sixth point can be set anew.
    const { extremes } = store.doc
    if (extremes.length === NAMES.length) store.change('take a point back', { extremes: extremes.slice(0, -1) })
  }
}
