/**
 * Clicks for a deepgrow model: foreground and background points of a segment, and the mask that answers each. A 2-D model is
 * told the clicks of one slice and changes that slice; a 3-D model is told all and changes the segment.
 */
import { maskOf, RESULT_PARAMS, takeOver } from './answer.js'
import { makeSvg } from './dom.js'
import { type Box, union, type Vec3, wholeBox } from './geometry.js'
import type { Opener } from './open.js'
import { type Clicks, colorFor, type Segment } from './store.js'
import type { Hit, Tool } from './tool.js'
import type { Tile } from './viewer.js'
import { isFlatModel, type Workbench } from './workbench.js'

interface Click {
  readonly voxel: Vec3
  readonly side: 'foreground' | 'background'
}

/** The axis that 2-D models slice along: the third of the volume's own. */
const SLICE_AXIS = 2

export class ClickTool implements Tool {
  readonly #bench: Workbench
  readonly #opener: Opener
  readonly #status: (text: string) => void
  /** Clicks whose mask is not there yet, oldest first. */
  #waiting: Click[] = []
  #answering: Promise<void> = Promise.resolve()
  /** Sessions and models that were made ready for the first click, so that none is asked twice. */
  readonly #readied = new Set<string>()

  constructor(bench: Workbench, opener: Opener, status: (text: string) => void) {
    this.#bench = bench
    this.#opener = opener
    this.#status = status
    bench.on('tool', () => this.#makeReady())
    bench.on('scan', () => this.#makeReady())
  }

  /** Loads the model and prepares the image while the person looks for a place to click; nothing depends on it. */
  #makeReady(): void {
    const { api, scan, tool, viewer } = this.#bench
    const model = tool === 'click' && scan ? this.#bench.modelFor('click') : undefined
    // Of several images it is not known which one the first click will be in.
    if (!scan || model?.type !== 'deepgrow' || viewer.frames > 1) return
    const key = `${scan.session} ${model.name}`
    if (this.#readied.has(key)) return
    this.#readied.add(key)
    api.prepare(model.name, scan.session, viewer.crosshair[SLICE_AXIS]).catch(() => this.#readied.delete(key))
  }

  hint(): string {
    const { viewer } = this.#bench
    const model = this.#bench.modelFor('click')
    if (!model) return 'No model for clicks is loaded on this server.'
    const where = isFlatModel(model) && !viewer.isFlat ? ` in ${viewer.planeAcross(SLICE_AXIS)} slices` : ''
    return `${model.name}${where}: click inside the structure; right or Ctrl click outside it. Each click is answered.`
  }

  down(hit: Hit): boolean {
    this.#bench.viewer.crosshair = hit.voxel
    this.#add({ voxel: hit.voxel, side: hit.alternate ? 'background' : 'foreground' })
    return true
  }

  enter(hit: Hit): void {
    this.#add({ voxel: hit.voxel, side: hit.alternate ? 'background' : 'foreground' })
  }

  marks(tile: Tile): SVGElement[] {
    const { doc } = this.#bench.store
    const clicks = doc.active === undefined ? undefined : doc.clicks[doc.active]
    return [
      ...(clicks?.foreground ?? []).flatMap((voxel) => dot(tile, voxel, 'foreground', false)),
      ...(clicks?.background ?? []).flatMap((voxel) => dot(tile, voxel, 'background', false)),
      ...this.#waiting.flatMap(({ voxel, side }) => dot(tile, voxel, side, true)),
    ]
  }

  /** Takes back all clicks of the active segment; what they drew stays. */
  clear(): void {
    const { store } = this.#bench
    const { active, clicks } = store.doc
    if (active === undefined || !clicks[active]) return
    const { [active]: _gone, ...kept } = clicks
    store.change('clear clicks', { clicks: kept })
  }

  #add(click: Click): void {
    this.#waiting.push(click)
    this.#bench.viewer.draw()
    // One after the other: a mask belongs to the clicks before it.
    this.#answering = this.#answering.then(() => this.#answer(click))
  }

  async #answer(click: Click): Promise<void> {
    const { api, scan, store, viewer } = this.#bench
    const model = this.#bench.modelFor('click')
    const drop = () => {
      this.#waiting = this.#waiting.filter((other) => other !== click)
      viewer.draw()
    }
    if (!scan || !model) return drop()
    const pressed = performance.now()
    const segment = this.#segmentFor(model.name)
    if (!segment) {
      drop()
      return this.#bench.banner.show('There are no more than 255 segments; delete one first.')
    }
    const before: Clicks = store.doc.clicks[segment.id] ?? { model: model.name, foreground: [], background: [] }
    const clicks: Clicks = { ...before, [click.side]: [...before[click.side], click.voxel] }
    const flat = isFlatModel(model)
    const told = flat ? inSlice(clicks, click.voxel) : clicks
    if (told.foreground.length === 0) {
      drop()
      return this.#status('The first click of a structure has to lie inside it.')
    }
    try {
      const params = { foreground: told.foreground, background: told.background, ...RESULT_PARAMS }
      const { signal } = new AbortController()
      const answer = await this.#bench.asking(model, (image) =>
        api.infer('deepgrow', model.name, scan.session, { ...params, ...image }, signal),
      )
      if (this.#bench.scan !== scan) return
      const { labels, doc } = store
      const mask = await maskOf(answer, labels.size)
      const within = flat ? sliceBox(click.voxel, labels.size) : wholeBox(labels.size)
      const box = union(mask.box, labels.boxOf(segment.id, within))
      const segments = doc.segments.some(({ id }) => id === segment.id) ? doc.segments : [...doc.segments, segment]
      const change = { segments, active: segment.id, clicks: { ...doc.clicks, [segment.id]: clicks } }
      const ids = new Map(mask.labels.map(({ value }) => [value, segment.id]))
      if (ids.size === 0) ids.set(1, segment.id)
      this.#waiting = this.#waiting.filter((other) => other !== click)
      store.change('click', change, box && { box, labels: takeOver(labels, box, mask, ids) })
      await new Promise((resolve) => requestAnimationFrame(resolve))
      const shown = performance.now() - pressed
      const said = `Mask in ${Math.round(shown)} ms, of which the server ${Math.round(answer.elapsed)} ms.`
      this.#bench.note(
        `click ${model.name} ${Math.round(shown)} ms, server ${Math.round(answer.elapsed)} ms on ${answer.device}`,
      )
      const notes = answer.params.notes as string[] | undefined
      this.#status([said, ...(notes ?? [])].join(' '))
    } catch (error) {
      this.#opener.complain(error)
    } finally {
      drop()
    }
  }

  /** The active segment where its clicks are this model's or it is empty; else a new one. */
  #segmentFor(model: string): Segment | undefined {
    const { store } = this.#bench
    const { active } = store
    if (active && (store.doc.clicks[active.id]?.model === model || store.labels.count(active.id) === 0)) return active
    const id = store.freeLabel()
    return id === undefined ? undefined : { id, name: `Segment ${id}`, color: colorFor(id), visible: true, model }
  }
}

function inSlice(clicks: Clicks, voxel: Vec3): Clicks {
  const same = (other: Vec3) => other[SLICE_AXIS] === voxel[SLICE_AXIS]
  return { ...clicks, foreground: clicks.foreground.filter(same), background: clicks.background.filter(same) }
}

function sliceBox(voxel: Vec3, size: Vec3): Box {
  const { min, max } = wholeBox(size)
  return { min: [min[0], min[1], voxel[SLICE_AXIS]], max: [max[0], max[1], voxel[SLICE_AXIS]] }
}

/** Foreground dots carry a plus, background dots a minus: colour alone would not do for everybody. */
function dot(tile: Tile, voxel: Vec3, side: Click['side'], waiting: boolean): SVGElement[] {
  if (voxel[tile.across] !== tile.slice) return []
  const [x, y] = tile.toScreen(voxel)
  const sign = side === 'foreground' ? `M${x - 3} ${y}h6M${x} ${y - 3}v6` : `M${x - 3} ${y}h6`
  return [
    makeSvg('circle', { class: `click ${side}${waiting ? ' waiting' : ''}`, cx: x, cy: y, r: 6 }),
    makeSvg('path', { class: 'sign', d: sign }),
  ]
}
