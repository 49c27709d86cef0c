/** Painting and erasing by hand: a disc in the slice or a ball in the volume, of a radius in millimetres. */
import { makeSvg } from './dom.js'
import { type Box, union, type Vec3 } from './geometry.js'
import { line, type Nib, reachOf, stamp } from './morphology.js'
import { colorFor, type Segment } from './store.js'
import type { Hit, Tool } from './tool.js'
import type { Tile } from './viewer.js'
import type { Workbench } from './workbench.js'

export interface NibChoice {
  /** mm */
  radius: number
  ball: boolean
}

interface Stroke {
  readonly segment: Segment
  readonly value: number
  readonly nib: Nib
  readonly across: 0 | 1 | 2
  /** What every touched voxel held before, by index. */
  readonly before: Map<number, number>
  box: Box
  last: Vec3
}

export class BrushTool implements Tool {
  readonly #bench: Workbench
  readonly #choice: NibChoice
  readonly #erases: boolean
  #stroke: Stroke | undefined
  #hover: Hit | undefined

  constructor(bench: Workbench, choice: NibChoice, erases: boolean) {
    this.#bench = bench
    this.#choice = choice
    this.#erases = erases
  }

  hint(): string {
    const name = this.#bench.store.active?.name ?? 'a new segment'
    return this.#erases
      ? `Drag to erase from ${name}; with Ctrl from every segment. [ and ] change the radius.`
      : `Drag to paint ${name}. [ and ] change the radius; right drag erases.`
  }

  down(hit: Hit): boolean {
    const { store, viewer } = this.#bench
    const segment = store.active ?? this.#newSegment()
    if (!segment) return false
    const erases = this.#erases || hit.alternate
    const nib = this.#nib(hit.tile)
    this.#stroke = {
      segment,
      value: erases ? 0 : segment.id,
      nib,
      across: hit.tile.across,
      before: new Map(),
      box: { min: hit.voxel, max: hit.voxel },
      last: hit.voxel,
    }
    // A new segment has to have its colour while it is painted.
    viewer.colors = store.doc.segments.some(({ id }) => id === segment.id)
      ? store.doc.segments
      : [...store.doc.segments, segment]
    this.#paint(hit.voxel, this.#erases && hit.alternate)
    return true
  }

  drag(hit: Hit | undefined): void {
    this.#hover = hit
    if (this.#stroke && hit && hit.tile.across === this.#stroke.across)
      this.#paint(hit.voxel, this.#erases && hit.alternate)
    this.#bench.viewer.onDraw()
  }

  /** The stroke becomes one step. */
  up(): void {
    const stroke = this.#stroke
    this.#stroke = undefined
    if (!stroke || stroke.before.size === 0) return
    const { store } = this.#bench
    const { doc, labels } = store
    const after = labels.read(stroke.box)
    for (const [index, value] of stroke.before) labels.data[index] = value
    const segments = doc.segments.some(({ id }) => id === stroke.segment.id)
      ? doc.segments
      : [...doc.segments, stroke.segment]
    store.change(
      this.#erases ? 'erase' : 'paint',
      { segments, active: stroke.segment.id },
      { box: stroke.box, labels: after },
    )
  }

  hover(hit: Hit | undefined): void {
    this.#hover = hit
    this.#bench.viewer.onDraw()
  }

  enter(hit: Hit): void {
    if (this.down(hit)) this.up()
  }

  marks(tile: Tile): SVGElement[] {
    const hit = this.#hover
    if (!hit || (hit.tile.across !== tile.across && !this.#choice.ball)) return []
    const [x, y] = tile.toScreen(hit.voxel)
    const edge = [...hit.voxel] as [number, number, number]
    const { spacing } = this.#bench.scan!
    edge[tile.horizontal] += this.#choice.radius / spacing[tile.horizontal]
    edge[tile.vertical] += this.#choice.radius / spacing[tile.vertical]
    const [ex, ey] = tile.toScreen(edge)
    return [makeSvg('ellipse', { class: 'nib', cx: x, cy: y, rx: Math.abs(ex - x), ry: Math.abs(ey - y) })]
  }

  leave(): void {
    this.up()
    this.#hover = undefined
  }

  #nib(tile: Tile): Nib {
    const across = this.#choice.ball ? undefined : tile.across
    return { radius: this.#choice.radius, spacing: this.#bench.scan!.spacing, across }
  }

  #paint(voxel: Vec3, everything: boolean): void {
    const stroke = this.#stroke!
    const { labels } = this.#bench.store
    const { data, size } = labels
    const points = line(stroke.last, voxel)
    stroke.last = voxel
    for (const point of points)
      stamp(point, stroke.nib, size, (x, y, z) => {
        const index = labels.indexOf([x, y, z])
        const held = data[index]!
        if (held === stroke.value || (stroke.value === 0 && !everything && held !== stroke.segment.id)) return
        if (!stroke.before.has(index)) stroke.before.set(index, held)
        data[index] = stroke.value
      })
    const reach = reachOf(stroke.nib)
    const around = (p: Vec3): Box => ({
      min: p.map((v, axis) => Math.max(0, v - reach[axis]!)) as unknown as Vec3,
      max: p.map((v, axis) => Math.min(size[axis]! - 1, v + reach[axis]!)) as unknown as Vec3,
    })
    const touched = union(around(points[0]!), around(voxel))!
    stroke.box = union(stroke.box, touched)!
    this.#bench.viewer.updateLabels(labels, touched)
  }

  #newSegment(): Segment | undefined {
    const id = this.#bench.store.freeLabel()
    if (id === undefined || this.#erases) return undefined
    return { id, name: `Segment ${id}`, color: colorFor(id), visible: true }
  }
}
