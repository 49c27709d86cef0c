/**
 * The contour of the active segment in the present slice (along the volume's third axis): mask2polygon's polygons, a vertex
 * of which can be dragged; fixpolygon then moves its neighbours to the edge of the image, and the mask follows.
 */
import { maskOf, RESULT_PARAMS } from './answer.js'
import { formOf } from './api.js'
import { makeSvg } from './dom.js'
import { type Box, type Vec3, wholeBox } from './geometry.js'
import { parseReply } from './multipart.js'
import { sliceNifti } from './nifti.js'
import type { Opener } from './open.js'
import type { Hit, Tool } from './tool.js'
import type { Tile } from './viewer.js'
import type { Workbench } from './workbench.js'

/** [column, row] of the slice as the server loads it: [y, x]. */
type Point = readonly [number, number]
type Polygon = readonly Point[]

interface Grip {
  readonly polygon: number
  readonly vertex: number
  /** Where it is dragged to. */
  to: Point
}

/** Voxels of tolerance: few enough vertices to hold, near enough to the mask. */
const SIMPLIFY = 0.75
/** Pixels around a vertex that take hold of it. */
const REACH = 9
/** Vertices to each side that follow. */
const NEIGHBOURS = 2

export class ContourTool implements Tool {
  readonly #bench: Workbench
  readonly #opener: Opener
  #polygons: readonly Polygon[] = []
  /** What the polygons are of. */
  #of = ''
  #version = 0
  #grip: Grip | undefined
  #isDragged = false

  constructor(bench: Workbench, opener: Opener) {
    this.#bench = bench
    this.#opener = opener
    bench.store.subscribe(() => {
      this.#version++
    })
  }

  hint(): string {
    const { active } = this.#bench.store
    if (!active) return 'Choose a segment to see its contour.'
    if (this.#polygons.length === 0) return `${active.name} has no voxel in this slice.`
    return 'Drag a vertex; its neighbours settle on the edge. With keys: Enter takes the nearest vertex, Enter again puts it at the crosshair.'
  }

  down(hit: Hit): boolean {
    if (hit.tile.across !== 2 || hit.alternate) return false
    const grip = this.#nearest(hit.tile, hit.x, hit.y, REACH)
    if (!grip) return false
    this.#grip = grip
    this.#isDragged = true
    return true
  }

  drag(hit: Hit | undefined): void {
    if (!this.#grip || !hit) return
    this.#grip.to = [hit.voxel[1], hit.voxel[0]]
    this.#bench.viewer.onDraw()
  }

  up(): void {
    this.#isDragged = false
    const grip = this.#grip
    this.#grip = undefined
    if (grip) void this.#fix(grip)
  }

  enter({ tile, voxel }: Hit): void {
    if (this.#grip) {
      this.#grip.to = [voxel[1], voxel[0]]
      this.up()
      return
    }
    const [x, y] = tile.toScreen(voxel)
    this.#grip = this.#nearest(tile, x, y, Number.POSITIVE_INFINITY)
    this.#bench.viewer.onDraw()
  }

  leave(): void {
    this.#grip = undefined
    this.#polygons = []
    this.#of = ''
  }

  marks(tile: Tile): SVGElement[] {
    if (tile.across !== 2) return []
    this.#refresh(tile.slice)
    return this.#polygons.flatMap((polygon, p) => {
      const points = polygon.map((point, v) => {
        const at = this.#grip?.polygon === p && this.#grip.vertex === v ? this.#grip.to : point
        return tile.toScreen([at[1], at[0], tile.slice])
      })
      const held = (v: number) => this.#grip?.polygon === p && this.#grip.vertex === v
      return [
        makeSvg('polygon', { class: 'contour', points: points.map((point) => point.join(',')).join(' ') }),
        ...points.map(([x, y], v) => makeSvg('circle', { class: 'vertex', cx: x, cy: y, r: held(v) ? 7 : 4 })),
      ]
    })
  }

  /** Asks for the contour of another slice, segment or state, unless it is the one that is shown. */
  #refresh(slice: number): void {
    const { scan, store } = this.#bench
    const { active } = store
    const of = `${scan?.session} ${active?.id} ${slice} ${this.#version}`
    if (of === this.#of || this.#isDragged || !scan) return
    this.#of = of
    if (!active) {
      this.#polygons = []
      return
    }
    void this.#trace(active.id, slice, of)
  }

  async #trace(id: number, slice: number, of: string): Promise<void> {
    const { api, store, viewer } = this.#bench
    const { size } = store.labels
    const mask = store.labels.read(sliceBox(size, slice)).map((label) => (label === id ? 1 : 0))
    const form = formOf({ simplify: SIMPLIFY })
    form.append('image', new Blob([sliceNifti(mask, size[0], size[1])]), 'slice.nii')
    try {
      const polygons: Polygon[][] = mask.includes(1) ? await (await api.tool('v1/mask2polygon', form)).json() : []
      if (of !== this.#of) return
      this.#polygons = polygons[0] ?? []
      viewer.draw()
      this.#bench.tool = 'contour'
    } catch (error) {
      this.#opener.complain(error)
    }
  }

  async #fix({ polygon, vertex, to }: Grip): Promise<void> {
    const { api, store, viewer } = this.#bench
    const from = this.#polygons[polygon]![vertex]!
    const offset = [to[0] - from[0], to[1] - from[1]]
    const { active, labels } = store
    if (!active || (offset[0] === 0 && offset[1] === 0)) return viewer.draw()
    const slice = viewer.crosshair[2]
    const [nx, ny] = labels.size
    const form = formOf({
      dimension: 2,
      poly: this.#polygons,
      polygon_index: polygon,
      vertex_index: vertex,
      vertex_offset: offset,
      propagate_neighbor: NEIGHBOURS,
      ...RESULT_PARAMS,
    })
    form.append('image', new Blob([sliceNifti(viewer.sliceAt(slice), nx, ny)]), 'slice.nii')
    try {
      const response = await api.tool('v1/fixpolygon?output=all', form)
      const reply = parseReply(await response.arrayBuffer(), response.headers.get('content-type') ?? '')
      const fixed = await maskOf(
        { ...reply, params: { label_statistics: [{ label: 1, name: '', voxels: 1 }] } } as never,
        [nx, ny, 1],
      )
      const box = sliceBox(labels.size, slice)
      const after = labels.read(box)
      for (let i = 0; i < after.length; i++)
        if (after[i] === active.id || after[i] === 0) after[i] = fixed.data[i] === 0 ? 0 : active.id
      store.change('move contour', {}, { box, labels: after })
    } catch (error) {
      this.#opener.complain(error)
      viewer.draw()
    }
  }

  #nearest(tile: Tile, x: number, y: number, within: number): Grip | undefined {
    let nearest: Grip | undefined
    let least = within
    this.#polygons.forEach((polygon, p) => {
      polygon.forEach((point, vertex) => {
        const at: Vec3 = [point[1], point[0], tile.slice]
        const [px, py] = tile.toScreen(at)
        const distance = Math.hypot(px - x, py - y)
        if (distance < least) {
          least = distance
          nearest = { polygon: p, vertex, to: point }
        }
      })
    })
    return nearest
  }
}

function sliceBox(size: Vec3, slice: number): Box {
  const { min, max } = wholeBox(size)
  return { min: [min[0], min[1], slice], max: [max[0], max[1], slice] }
}
