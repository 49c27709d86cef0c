/**
 * The image on the screen: slices painted by the processor, which is quick everywhere and needs no graphics card, and beside
 * them or alone the 3-D view. Positions on the screen are CSS pixels from the canvas's corner; voxels are those of the session's
 * volume. Pointer and keys are handled elsewhere.
 */
import { type Box, isUsable, type PatientAxis, patientAxes, union, type Vec3, wholeBox } from './geometry.js'
import type { LabelMap } from './label-map.js'
import type { Voxels } from './nifti.js'
import { arrange, PICTURE_PLANE, type Plane, type PlaneName, patientPlanes, type Rect } from './planes.js'
import type { Scan, ScanImage } from './scan.js'
import { extremesOf, usualWindow } from './slice-painter.js'
import { SlicePicture } from './slice-picture.js'
import { rgbOf, type Segment } from './store.js'
import { VolumeRender } from './volume-render.js'

export type Layout = 'multi' | 'render' | PlaneName

/** A slice on the screen. */
export interface Tile extends Rect {
  readonly plane: Plane
  /** The voxel axis across the slice, and the voxel of the slice along it. */
  readonly across: 0 | 1 | 2
  readonly slice: number
  /** Screen axes as voxel axes. */
  readonly horizontal: 0 | 1 | 2
  readonly vertical: 0 | 1 | 2
  /** Where a point of the volume lies, in voxels; centres are whole numbers. */
  toScreen(voxel: Vec3): readonly [number, number]
  /** The other way, unrounded; the coordinate across is the slice. */
  toVoxel(x: number, y: number): Vec3
}

interface Cell extends Rect {
  readonly picture: SlicePicture
}

const IDENTITY: readonly PatientAxis[] = [0, 1, 2].map((axis) => ({ axis: axis as 0 | 1 | 2, backwards: false }))

/** The most that a picture is enlarged over fitting its cell, and the least. */
const ZOOM = { most: 20, least: 0.5 }

export class Viewer {
  /** Called after every drawing. */
  onDraw: () => void = () => undefined
  readonly #canvas: HTMLCanvasElement
  readonly #context: CanvasRenderingContext2D
  readonly #renderBox: HTMLElement
  readonly #render: VolumeRender
  #scan: Scan | undefined
  #image: ScanImage = { data: new Uint8Array(), colours: undefined, frames: 1 }
  #labels: LabelMap | undefined
  #axes = IDENTITY
  #pictures: readonly SlicePicture[] = []
  #layout: Layout = 'multi'
  #cells: readonly Cell[] = []
  #renderCell: Rect | undefined
  /** CSS pixels a millimetre, before the zoom. */
  #scale = 1
  #zoom = 1
  /** Millimetres along the voxel axes. */
  #pan: Vec3 = [0, 0, 0]
  #crosshair: Vec3 = [0, 0, 0]
  #window: readonly [number, number] = [0, 1]
  #usual: readonly [number, number] = [0, 1]
  #frame = 0
  #segments: readonly Segment[] = []
  #opacity = 0.45
  #hasOutline = false
  #isSmooth = true
  #scanOpacity = 0.25
  #drawing = 0
  /** What each cell shows, so that only what changed is drawn. */
  #drawn: string[] = []
  /** Whether 3-D has to be drawn again, and where its labels are old. */
  #isRenderStale = true
  #renderStaleBox: Box | undefined

  constructor(canvas: HTMLCanvasElement, renderBox: HTMLElement) {
    this.#canvas = canvas
    this.#context = canvas.getContext('2d', { alpha: false })!
    this.#renderBox = renderBox
    this.#render = new VolumeRender(renderBox.querySelector('canvas')!)
    new ResizeObserver(() => this.#resize()).observe(canvas)
  }

  show(scan: Scan, image: ScanImage, labels: LabelMap): void {
    const { size, affine, isPicture } = scan
    const isKnown = !isPicture && isUsable(affine)
    this.#scan = scan
    this.#image = image
    this.#labels = labels
    this.#axes = isKnown ? patientAxes(affine) : IDENTITY
    const planes = isPicture ? [PICTURE_PLANE] : patientPlanes(this.#axes, isKnown)
    // Of one slice there is nothing to see from the side.
    this.#pictures = planes.filter(({ across }) => !this.isFlat || across === 2).map((plane) => new SlicePicture(plane))
    this.#segments = []
    this.#frame = 0
    this.#usual = usualOf(scan, image)
    this.#window = this.#usual
    this.#zoom = 1
    this.#pan = [0, 0, 0]
    this.#layout = this.isFlat ? this.#pictures[0]!.plane.name : 'multi'
    this.#crosshair = size.map((n) => Math.floor(n / 2)) as unknown as Vec3
    this.#render.clear()
    this.#resize()
  }

  get isOpen(): boolean {
    return this.#scan !== undefined
  }

  /** One slice only. */
  get isFlat(): boolean {
    return this.#scan !== undefined && (this.#scan.isPicture || this.#scan.size[2] === 1)
  }

  /** Why there is no 3-D view; undefined when there is one. */
  get noRender(): string | undefined {
    return VolumeRender.renderer === undefined
      ? 'This browser has no WebGL2, which the 3-D view is drawn with: switch on graphics acceleration in its settings, or use another browser. All else works without it.'
      : undefined
  }

  get layout(): Layout {
    return this.#layout
  }

  set layout(layout: Layout) {
    if (this.isFlat || (layout === 'render' && this.noRender !== undefined)) return
    this.#layout = layout
    this.#resize()
  }

  /** The voxel that the slices go through. */
  get crosshair(): Vec3 {
    return this.#crosshair
  }

  set crosshair(voxel: Vec3) {
    const { size } = this.#scan!
    this.#crosshair = voxel.map((v, axis) => Math.min(size[axis]! - 1, Math.max(0, v))) as unknown as Vec3
    this.draw()
  }

  /** The crosshair into the middle. */
  centre(): void {
    if (this.#scan) this.crosshair = this.#scan.size.map((n) => Math.floor(n / 2)) as unknown as Vec3
  }

  /** The slices on the screen, as they lie now. */
  tiles(): Tile[] {
    return this.#cells.map((cell) => this.#tileOf(cell))
  }

  /** The slice under a point of the screen. */
  tileAt(x: number, y: number): Tile | undefined {
    const cell = this.#cells.find((rect) => isIn(rect, x, y))
    return cell && this.#tileOf(cell)
  }

  /** The voxel under a point of the screen, if it lies in the image. */
  voxelAt(x: number, y: number): { tile: Tile; voxel: Vec3 } | undefined {
    const tile = this.tileAt(x, y)
    if (!tile) return undefined
    const voxel = tile.toVoxel(x, y).map((v) => Math.round(v)) as unknown as Vec3
    return voxel.every((v, axis) => v >= 0 && v < this.#scan!.size[axis]!) ? { tile, voxel } : undefined
  }

  /** How many slices there are across a voxel axis. */
  slicesAcross(axis: 0 | 1 | 2): number {
    return this.#scan!.size[axis]
  }

  /** The view that shows slices across a voxel axis. */
  planeAcross(axis: 0 | 1 | 2): PlaneName {
    return this.#pictures.find(({ plane }) => plane.across === axis)?.plane.name ?? 'axial'
  }

  isRenderAt(x: number, y: number): boolean {
    return this.#renderCell !== undefined && isIn(this.#renderCell, x, y)
  }

  /** The image's value at a voxel; several for a colour. */
  valueAt([x, y, z]: Vec3): readonly number[] {
    const { size } = this.#scan!
    const { data, colours = 1 } = this.#image
    const voxels = size[0] * size[1] * size[2]
    const at = this.#frame * colours * voxels + x + size[0] * (y + size[1] * z)
    return Array.from({ length: Math.min(colours, 3) }, (_, c) => data[at + c * voxels]!)
  }

  /** The values of a slice along the third axis, x fastest; of a colour its luminance. */
  sliceAt(z: number): Voxels {
    const [nx, ny, nz] = this.#scan!.size
    const { data, colours } = this.#image
    const voxels = nx * ny * nz
    const first = this.#frame * (colours ?? 1) * voxels + z * nx * ny
    if (colours === undefined) return data.slice(first, first + nx * ny)
    const weights = [0.299, 0.587, 0.114]
    return Float32Array.from({ length: nx * ny }, (_, i) =>
      weights.reduce((sum, weight, c) => sum + weight * data[first + c * voxels + i]!, 0),
    )
  }

  /** Moves along the axis across a tile. */
  scroll(across: 0 | 1 | 2, slices: number): void {
    const to = [...this.#crosshair] as [number, number, number]
    to[across] += slices
    this.crosshair = to
  }

  /** Images on one grid: time points, echoes. */
  get frames(): number {
    return this.#image.frames
  }

  /** Which of several images on one grid is shown, from 0. */
  get frame(): number {
    return this.#frame
  }

  set frame(frame: number) {
    this.#frame = Math.min(this.#image.frames - 1, Math.max(0, frame))
    for (const picture of this.#pictures) picture.dropImage()
    this.#render.clear()
    this.#isRenderStale = true
    this.draw()
  }

  /** Black and white, in the image's values. */
  get window(): readonly [number, number] {
    return this.#window
  }

  set window([low, high]: readonly [number, number]) {
    this.#window = [low, Math.max(high, low + 1e-6 * Math.max(1, Math.abs(low)))]
    for (const picture of this.#pictures) picture.dropImage()
    if (this.#render.isReady) this.#render.window = this.#window
    this.#isRenderStale = true
    this.draw()
  }

  resetWindow(): void {
    this.window = this.#usual
  }

  /** Enlarges, about a point of the screen or the crosshair. */
  zoomBy(factor: number, at?: { readonly tile: Tile; readonly x: number; readonly y: number }): void {
    const scan = this.#scan
    if (!scan) return
    const to = Math.min(ZOOM.most, Math.max(ZOOM.least, this.#zoom * factor))
    const fixed = at ? at.tile.toVoxel(at.x, at.y) : this.#crosshair
    this.#pan = this.#pan.map((pan, axis) => {
      const place = (fixed[axis]! - (scan.size[axis]! - 1) / 2) * scan.spacing[axis]!
      return to <= 1 ? 0 : ((place + pan) * this.#zoom) / to - place
    }) as unknown as Vec3
    this.#zoom = to
    this.draw()
  }

  /** The whole image into each cell. */
  fit(): void {
    this.#zoom = 1
    this.#pan = [0, 0, 0]
    this.draw()
  }

  /** Moves the picture in a tile by pixels of the screen. */
  pan({ plane }: Tile, dx: number, dy: number): void {
    const pan = [...this.#pan] as [number, number, number]
    const pixels = this.#scale * this.#zoom
    pan[plane.right.axis] += (plane.right.step * dx) / pixels
    pan[plane.down.axis] += (plane.down.step * dy) / pixels
    this.#pan = pan
    this.draw()
  }

  rotate(dx: number, dy: number): void {
    this.#render.turn(-dx / 2, dy / 2)
    this.#isRenderStale = true
    this.draw()
  }

  set opacity(opacity: number) {
    this.#opacity = opacity
    this.#recolour()
  }

  /** Whether the edge of a segment is drawn stronger than its inside. */
  set outline(on: boolean) {
    this.#hasOutline = on
    this.#recolour()
  }

  set smooth(on: boolean) {
    this.#isSmooth = on
    this.draw()
  }

  /** How much of the scan stands before the segments in 3-D, from 0 to 1. */
  set scanOpacity(opacity: number) {
    this.#scanOpacity = opacity
    this.#isRenderStale = true
    this.draw()
  }

  set colors(segments: readonly Segment[]) {
    if (segments === this.#segments) return
    this.#segments = segments
    this.#recolour()
  }

  /** Takes over the labels inside a box. */
  updateLabels(labels: LabelMap, box: Box = wholeBox(labels.size)): void {
    this.#labels = labels
    for (const picture of this.#pictures) {
      const { across } = picture.plane
      picture.dropLabels(box.min[across], box.max[across])
    }
    this.#renderStaleBox = union(this.#renderStaleBox, box)
    this.#isRenderStale = true
    this.draw()
  }

  /** Draws with the next frame, once however often it is asked to before that. */
  draw(): void {
    if (!this.#scan || this.#drawing !== 0) return
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0
      this.#paint()
    })
  }

  /** What draws in 3-D, for the diagnostics. */
  get renderer(): string {
    return VolumeRender.renderer ?? 'no WebGL2'
  }

  #tileOf({ left, top, width, height, picture: { plane } }: Cell): Tile {
    const { size, spacing } = this.#scan!
    const [centreX, centreY] = [left + width / 2, top + height / 2]
    const pixels = this.#scale * this.#zoom
    const pan = this.#pan
    const slice = this.#crosshair[plane.across]
    // Along a screen axis: pixels from the middle of the cell to voxels, and back.
    const toPixels = ({ axis, step }: Plane['right'], v: number) =>
      step * ((v - (size[axis] - 1) / 2) * spacing[axis] + pan[axis]) * pixels
    const toVoxels = ({ axis, step }: Plane['right'], distance: number) =>
      ((step * distance) / pixels - pan[axis]) / spacing[axis] + (size[axis] - 1) / 2
    return {
      ...{ left, top, width, height, plane, slice },
      across: plane.across,
      horizontal: plane.right.axis,
      vertical: plane.down.axis,
      toScreen: (voxel) => [
        centreX + toPixels(plane.right, voxel[plane.right.axis]),
        centreY + toPixels(plane.down, voxel[plane.down.axis]),
      ],
      toVoxel: (x, y) => {
        const voxel = [0, 0, 0] as [number, number, number]
        voxel[plane.right.axis] = toVoxels(plane.right, x - centreX)
        voxel[plane.down.axis] = toVoxels(plane.down, y - centreY)
        voxel[plane.across] = slice
        return voxel
      },
    }
  }

  /** Cells for what the layout shows, and the scale at which all of it fits. */
  #resize(): void {
    const scan = this.#scan
    const { clientWidth: width, clientHeight: height } = this.#canvas
    if (!scan || width === 0 || height === 0) return
    const ratio = devicePixelRatio
    this.#canvas.width = Math.round(width * ratio)
    this.#canvas.height = Math.round(height * ratio)
    this.#drawn = []
    const layout = this.#layout
    const shown = this.#pictures.filter(({ plane }) => layout === 'multi' || layout === plane.name)
    const mm = (axis: 0 | 1 | 2) => scan.size[axis] * scan.spacing[axis]
    const sizes = shown.map(({ plane }) => [mm(plane.right.axis), mm(plane.down.axis)] as const)
    const besides = layout === 'multi' && shown.length === 3 && !this.noRender && !VolumeRender.isSoftware
    const hasRender = layout === 'render' || besides
    const longest = Math.max(...scan.size.map((_, axis) => mm(axis as 0 | 1 | 2)))
    const rects = arrange({ width, height }, hasRender ? [...sizes, [longest, longest]] : sizes)
    this.#cells = shown.map((picture, i) => ({ ...rects[i]!, picture }))
    this.#scale = Math.min(
      ...this.#cells.map((cell, i) => Math.min(cell.width / sizes[i]![0], cell.height / sizes[i]![1])),
    )
    this.#renderCell = hasRender ? rects.at(-1) : undefined
    this.#renderBox.hidden = !hasRender
    if (this.#renderCell) {
      const { style } = this.#renderBox
      for (const edge of ['left', 'top', 'width', 'height'] as const) style[edge] = `${this.#renderCell[edge]}px`
    }
    this.#isRenderStale = true
    // At once, so that a window that is made larger shows no black frame.
    this.#paint()
  }

  #paint(): void {
    const scan = this.#scan
    if (!scan || !this.#labels) return
    // The window may have come to another screen.
    if (Math.round(this.#canvas.clientWidth * devicePixelRatio) !== this.#canvas.width) {
      this.#resize()
      return
    }
    const [colors, edges] = [this.#table(this.#opacity), this.#hasOutline ? this.#table(1) : undefined]
    const look = {
      ...{ image: this.#image, size: scan.size, window: this.#window, frame: this.#frame, colors, edges },
      labels: this.#labels.data,
    }
    this.#cells.forEach((cell, i) => {
      const tile = this.#tileOf(cell)
      cell.picture.update(look, tile.slice)
      const [left, top] = this.#corner(tile, -0.5)
      const [right, bottom] = this.#corner(tile, 0.5)
      const drawn = [cell.picture.version, cell.picture.plane.name, left, top, right, bottom, this.#isSmooth].join()
      if (drawn === this.#drawn[i]) return
      this.#drawn[i] = drawn
      this.#drawCell(cell, left, top, right - left, bottom - top)
    })
    if (this.#renderCell && this.#isRenderStale) void this.#drawRender()
    this.onDraw()
  }

  /** The upper left corner (`side` -0.5) or the lower right one (0.5) of the slice's outermost voxels. */
  #corner({ plane, toScreen }: Tile, side: 0.5 | -0.5): readonly [number, number] {
    const { size } = this.#scan!
    const voxel = [0, 0, 0] as [number, number, number]
    for (const { axis, step } of [plane.right, plane.down]) voxel[axis] = step * side > 0 ? size[axis] - 0.5 : -0.5
    return toScreen(voxel)
  }

  #drawCell(cell: Cell, left: number, top: number, width: number, height: number): void {
    const context = this.#context
    const { picture } = cell
    context.save()
    context.scale(devicePixelRatio, devicePixelRatio)
    context.beginPath()
    context.rect(cell.left, cell.top, cell.width, cell.height)
    context.clip()
    context.fillRect(cell.left, cell.top, cell.width, cell.height)
    context.imageSmoothingEnabled = this.#isSmooth
    context.drawImage(picture.image.canvas, left, top, width, height)
    context.imageSmoothingEnabled = false
    if (picture.hasLabels) context.drawImage(picture.labels.canvas, left, top, width, height)
    context.restore()
  }

  async #drawRender(): Promise<void> {
    const [scan, labels, render] = [this.#scan!, this.#labels!, this.#render]
    this.#isRenderStale = false
    if (!render.isReady) {
      const { size, spacing } = scan
      const voxels = size[0] * size[1] * size[2]
      const data = this.#image.data.subarray(this.#frame * voxels, (this.#frame + 1) * voxels)
      await render.show({ data, size, spacing, axes: this.#axes }, this.#window)
      if (scan !== this.#scan) return
      this.#renderStaleBox = wholeBox(size)
    }
    if (this.#renderStaleBox) render.updateLabels(labels, this.#renderStaleBox)
    this.#renderStaleBox = undefined
    render.showLabels(new Uint8ClampedArray(this.#table(1).buffer))
    render.scanOpacity = this.#segments.some(({ visible }) => visible) ? this.#scanOpacity : 1
    render.draw()
  }

  #recolour(): void {
    for (const picture of this.#pictures) picture.dropLabels()
    this.#isRenderStale = true
    this.draw()
  }

  /** The segments' colours as pixels, by label. */
  #table(opacity: number): Uint32Array<ArrayBuffer> {
    const table = new Uint32Array(256)
    const bytes = new Uint8ClampedArray(table.buffer)
    for (const { id, color, visible } of this.#segments)
      bytes.set([...rgbOf(color), visible ? Math.round(255 * opacity) : 0], 4 * id)
    return table
  }
}

/** Colours as they are; grey by where most of its values lie. */
function usualOf({ size }: Scan, { data, colours }: ScanImage): readonly [number, number] {
  if (colours !== undefined && data instanceof Uint8Array) return [0, 255]
  if (colours !== undefined) return [0, extremesOf(data)[1]]
  return usualWindow(data.subarray(0, size[0] * size[1] * size[2]))
}

function isIn({ left, top, width, height }: Rect, x: number, y: number): boolean {
  return x >= left && y >= top && x < left + width && y < top + height
}
