/**
 * NiiVue behind our own words: it draws, this says where things are. Positions on the screen are CSS pixels from the
 * canvas's corner; voxels are those of the session's volume. NiiVue's own axes run R, A, S and are called drawn axes here.
 * Pointer and keys are handled elsewhere: NiiVue's listeners are off.
 */
import { type Box, boxSize, type Vec3, wholeBox } from './geometry.js'
import type { LabelMap } from './label-map.js'
import { forDisplay, type NiftiImage, type Voxels } from './nifti.js'
import type { Scan } from './scan.js'
import { uploadInSlabs } from './slab-uploads.js'
import { rgbOf, type Segment } from './store.js'
import { MULTIPLANAR_TYPE, Niivue, type NVImage, SHOW_RENDER, SLICE_TYPE } from './vendor/niivue.js'

export type Layout = 'multi' | 'axial' | 'coronal' | 'sagittal' | 'render'

/** A slice on the screen. */
export interface Tile {
  readonly left: number
  readonly top: number
  readonly width: number
  readonly height: number
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

const SLICE_TYPES = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  render: SLICE_TYPE.RENDER,
  multi: SLICE_TYPE.MULTIPLANAR,
} as const

/** Drawn axes of a tile, by NiiVue's axial, coronal, sagittal: horizontal, vertical, across. */
const TILE_AXES = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 2, 0],
] as const

/**
 * Without a graphics card the 3-D view takes seconds, for a large CT a minute: it is then not drawn beside the slices, only
 * where somebody asks for it alone.
 */
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i

export class Viewer {
  /** Called after every drawing. */
  onDraw: () => void = () => undefined
  readonly #canvas: HTMLCanvasElement
  readonly #nv: Niivue
  #image: NVImage | undefined
  #size: Vec3 = [1, 1, 1]
  /** For each drawn axis the voxel axis that runs along it, and whether it runs backwards. */
  #axes: readonly { readonly axis: 0 | 1 | 2; readonly backwards: boolean }[] = []
  #spacing: Vec3 = [1, 1, 1]
  #layout: Layout = 'multi'
  #isPicture = false
  #windowing = 0
  #drawing = 0
  #colored: readonly Segment[] | undefined

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas
    this.#nv = new Niivue({
      interactive: false,
      dragAndDropEnabled: false,
      backColor: [0, 0, 0, 1],
      // The overlay draws it, one pixel wide whatever the voxels' size.
      crosshairWidth: 0,
      fontColor: [0.8, 0.8, 0.8, 1],
      showAllOrientationMarkers: true,
      isNearestInterpolation: false,
      multiplanarLayout: MULTIPLANAR_TYPE.GRID,
      multiplanarPadPixels: 4,
      loadingText: '',
      logLevel: 'error',
    })
  }

  /** Rejects where there is no WebGL2. */
  async start(): Promise<void> {
    if (document.createElement('canvas').getContext('webgl2') === null) throw new Error('WEBGL2_MISSING')
    await this.#nv.attachToCanvas(this.#canvas)
    uploadInSlabs(this.#nv.gl)
    this.#nv.drawOpacity = 0.45
    this.#nv.resizeListener()
    new ResizeObserver(() => requestAnimationFrame(() => this.onDraw())).observe(this.#canvas)
  }

  async show(scan: Scan, image: NiftiImage): Promise<void> {
    const nv = this.#nv
    this.clear()
    await nv.loadFromArrayBuffer(forDisplay(image, scan.isPicture), 'scan.nii')
    const drawn = nv.volumes[0]!
    this.#image = drawn
    this.#colored = undefined
    this.#size = scan.size
    this.#isPicture = scan.isPicture
    this.#axes = drawn.permRAS!.map((step, i) => ({
      axis: (Math.abs(step) - 1) as 0 | 1 | 2,
      // A picture's rows were turned round for the drawing.
      backwards: step < 0 !== (scan.isPicture && i === 1),
    }))
    nv.opts.isOrientationTextVisible = !scan.isPicture
    nv.opts.multiplanarShowRender = SOFTWARE.test(this.renderer) ? SHOW_RENDER.NEVER : SHOW_RENDER.ALWAYS
    const spacing = drawn.pixDimsRAS!
    this.#spacing = [0, 1, 2].map(
      (axis) => spacing[1 + this.#axes.findIndex((a) => a.axis === axis)]!,
    ) as unknown as Vec3
    this.#newLabelTexture()
    nv.scene.pan2Dxyzmm = [0, 0, 0, 1]
    this.#layout = this.isFlat ? 'axial' : 'multi'
    nv.setSliceType(SLICE_TYPES[this.#layout])
    this.centre()
  }

  clear(): void {
    while (this.#nv.volumes.length > 0) this.#nv.removeVolumeByIndex(0)
    this.#image = undefined
  }

  get isOpen(): boolean {
    return this.#image !== undefined
  }

  /** One slice only: there is nothing to see from the side. */
  get isFlat(): boolean {
    return this.#isPicture || this.#size[2] === 1
  }

  get layout(): Layout {
    return this.#layout
  }

  set layout(layout: Layout) {
    if (this.isFlat) return
    this.#layout = layout
    this.#nv.setSliceType(SLICE_TYPES[layout])
    this.draw()
  }

  /** The voxel that the slices go through. */
  get crosshair(): Vec3 {
    const { crosshairPos } = this.#nv.scene
    return this.#fromDrawn([0, 1, 2].map((r) => Math.floor(crosshairPos[r]! * this.#drawnSize(r) + 1e-3)))
  }

  set crosshair(voxel: Vec3) {
    const drawn = this.#toDrawn(
      voxel.map((v, axis) => Math.min(this.#size[axis]! - 1, Math.max(0, v))) as unknown as Vec3,
    )
    this.#nv.scene.crosshairPos = drawn.map((v, r) => (v + 0.5) / this.#drawnSize(r)) as [number, number, number]
    this.draw()
  }

  /** The crosshair into the middle. */
  centre(): void {
    this.crosshair = this.#size.map((n) => Math.floor(n / 2)) as unknown as Vec3
  }

  /** The slices on the screen, as they lie now. */
  tiles(): Tile[] {
    if (!this.#image) return []
    const dpr = this.#ratio
    return this.#nv.screenSlices.flatMap(({ axCorSag, leftTopWidthHeight }, index) => {
      const axes = TILE_AXES[axCorSag as 0 | 1 | 2]
      if (axes === undefined) return []
      const [left, top, width, height] = leftTopWidthHeight as [number, number, number, number]
      const probe = (fx: number, fy: number) =>
        this.#nv.screenXY2TextureFrac(left + fx * width, top + fy * height, index, false) as ArrayLike<number>
      const [a, b] = [probe(0.25, 0.25), probe(0.75, 0.75)]
      const [h, v, d] = axes
      // Position along a drawn axis, in voxels, as a line through two probes in the tile.
      const along = (r: number, from: number, to: number) => {
        const [pa, pb] = [a[r]! * this.#drawnSize(r) - 0.5, b[r]! * this.#drawnSize(r) - 0.5]
        return { slope: (pb - pa) / (to - from), offset: pa - ((pb - pa) * from) / (to - from) }
      }
      const lineH = along(h, (left + 0.25 * width) / dpr, (left + 0.75 * width) / dpr)
      const lineV = along(v, (top + 0.25 * height) / dpr, (top + 0.75 * height) / dpr)
      const slice = this.crosshair[this.#axes[d]!.axis]
      const drawnSlice = this.#toDrawn(this.crosshair)[d]!
      const tile: Tile = {
        left: left / dpr,
        top: top / dpr,
        width: width / dpr,
        height: height / dpr,
        across: this.#axes[d]!.axis,
        slice,
        horizontal: this.#axes[h]!.axis,
        vertical: this.#axes[v]!.axis,
        toScreen: (voxel) => {
          const drawn = this.#toDrawn(voxel)
          return [(drawn[h]! - lineH.offset) / lineH.slope, (drawn[v]! - lineV.offset) / lineV.slope]
        },
        toVoxel: (x, y) => {
          const drawn = [0, 0, 0]
          drawn[h] = lineH.slope * x + lineH.offset
          drawn[v] = lineV.slope * y + lineV.offset
          drawn[d] = drawnSlice
          return this.#fromDrawn(drawn)
        },
      }
      return [tile]
    })
  }

  /** The slice under a point of the screen. */
  tileAt(x: number, y: number): Tile | undefined {
    return this.tiles().find(
      ({ left, top, width, height }) => x >= left && y >= top && x < left + width && y < top + height,
    )
  }

  /** The voxel under a point of the screen, if it lies in the image. */
  voxelAt(x: number, y: number): { tile: Tile; voxel: Vec3 } | undefined {
    const tile = this.tileAt(x, y)
    if (!tile) return undefined
    const voxel = tile.toVoxel(x, y).map((v) => Math.round(v)) as unknown as Vec3
    return voxel.every((v, axis) => v >= 0 && v < this.#size[axis]!) ? { tile, voxel } : undefined
  }

  /** The view that shows slices across a voxel axis. */
  planeAcross(axis: 0 | 1 | 2): 'axial' | 'coronal' | 'sagittal' {
    return (['sagittal', 'coronal', 'axial'] as const)[this.#axes.findIndex((drawn) => drawn.axis === axis)] ?? 'axial'
  }

  isRenderAt(x: number, y: number): boolean {
    return this.#nv.inRenderTile(x * this.#ratio, y * this.#ratio) >= 0
  }

  /** The image's value at a voxel; several for a colour. */
  valueAt([x, y, z]: Vec3): readonly number[] {
    const image = this.#image
    if (!image?.img) return []
    const [nx, ny] = this.#size
    // A picture was turned round for the drawing.
    const row = this.#isPicture ? ny - 1 - y : y
    const at = x + nx * (row + ny * z)
    if (image.hdr!.datatypeCode === 2304) return Array.from((image.img as Uint8Array).subarray(4 * at, 4 * at + 3))
    return [image.img[at]! as number]
  }

  /** The values of a slice along the third axis, x fastest; of a colour its luminance. */
  sliceAt(z: number): Voxels {
    const [nx, ny] = this.#size
    const image = this.#image!
    if (!this.#isPicture) return (image.img as Voxels).slice(z * nx * ny, (z + 1) * nx * ny)
    const slice = new Float32Array(nx * ny)
    const weights = [0.299, 0.587, 0.114]
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++) {
        const values = this.valueAt([x, y, 0])
        slice[x + nx * y] = values.length === 1 ? values[0]! : values.reduce((sum, v, c) => sum + v * weights[c]!, 0)
      }
    return slice
  }

  /** Moves along the axis across a tile. */
  scroll(across: 0 | 1 | 2, slices: number): void {
    const to = [...this.crosshair] as [number, number, number]
    to[across] = Math.min(this.#size[across] - 1, Math.max(0, to[across] + slices))
    this.crosshair = to
  }

  /** Black and white, in the image's values. */
  get window(): readonly [number, number] {
    return [this.#image?.cal_min ?? 0, this.#image?.cal_max ?? 1]
  }

  set window([low, high]: readonly [number, number]) {
    const image = this.#image
    if (!image) return
    image.cal_min = low
    image.cal_max = Math.max(high, low + 1e-6 * Math.max(1, Math.abs(low)))
    // The whole volume is coloured anew: once a frame is often enough.
    if (this.#windowing !== 0) return
    this.#windowing = requestAnimationFrame(() => {
      this.#windowing = 0
      // This draws, too.
      this.#nv.updateGLVolume()
      this.onDraw()
    })
  }

  resetWindow(): void {
    const image = this.#image
    if (image) this.window = [image.robust_min ?? image.global_min ?? 0, image.robust_max ?? image.global_max ?? 1]
  }

  get zoom(): number {
    return this.#nv.scene.pan2Dxyzmm[3]!
  }

  /** 1 fits the image into its tile. */
  set zoom(zoom: number) {
    const [x, y, z] = this.#nv.scene.pan2Dxyzmm
    this.#nv.scene.pan2Dxyzmm = [x!, y!, z!, Math.min(20, Math.max(0.5, zoom))]
    if (zoom <= 1) this.#nv.scene.pan2Dxyzmm = [0, 0, 0, this.zoom]
    this.draw()
  }

  /** Moves the picture in a tile by pixels of the screen. */
  pan(tile: Tile, dx: number, dy: number): void {
    const pan = [...this.#nv.scene.pan2Dxyzmm] as [number, number, number, number]
    const [a, b] = [tile.toVoxel(0, 0), tile.toVoxel(dx, dy)]
    this.#axes.forEach(({ axis, backwards }, r) => {
      if (axis !== tile.across) pan[r]! += (b[axis]! - a[axis]!) * this.#spacing[axis]! * (backwards ? -1 : 1)
    })
    this.#nv.scene.pan2Dxyzmm = pan
    this.draw()
  }

  rotate(dx: number, dy: number): void {
    const { renderAzimuth, renderElevation } = this.#nv.scene
    this.#nv.setRenderAzimuthElevation(renderAzimuth - dx / 2, Math.min(90, Math.max(-90, renderElevation + dy / 2)))
    this.onDraw()
  }

  set opacity(opacity: number) {
    this.#nv.drawOpacity = opacity
    this.draw()
  }

  /** Whether the edge of a segment is drawn stronger than its inside. */
  set outline(on: boolean) {
    this.#nv.drawRimOpacity = on ? 1 : -1
    this.draw()
  }

  set smooth(on: boolean) {
    this.#nv.setInterpolation(!on)
    this.draw()
  }

  set colors(segments: readonly Segment[]) {
    if (segments === this.#colored) return
    this.#colored = segments
    const lut = new Uint8ClampedArray(256 * 4)
    for (const { id, color, visible } of segments) lut.set([...rgbOf(color), visible ? 255 : 0], 4 * id)
    this.#nv.drawLut = { lut, labels: Array.from({ length: 256 }, () => '') } as never
    if (!this.#image) return
    this.#nv.refreshColormaps()
    this.draw()
  }

  /** Takes over the labels inside a box. */
  updateLabels(labels: LabelMap, box: Box = wholeBox(labels.size)): void {
    if (!this.#image) return
    const { gl } = this.#nv
    const drawn = this.#drawnBox(box)
    const voxels = this.#reordered(labels, box)
    const [nx, ny, nz] = boxSize(drawn)
    gl.activeTexture(gl.TEXTURE7)
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1)
    const { min } = drawn
    if (this.#nv.opts.is2DSliceShader) {
      gl.bindTexture(gl.TEXTURE_2D, this.#nv.drawTexture)
      gl.texSubImage2D(gl.TEXTURE_2D, 0, min[0], min[1], nx, ny, gl.RED, gl.UNSIGNED_BYTE, voxels)
    } else {
      gl.bindTexture(gl.TEXTURE_3D, this.#nv.drawTexture)
      gl.texSubImage3D(gl.TEXTURE_3D, 0, ...min, nx, ny, nz, gl.RED, gl.UNSIGNED_BYTE, voxels)
    }
    this.draw()
  }

  /** Draws with the next frame, once however often it is asked to before that. */
  draw(): void {
    if (!this.#image || this.#drawing !== 0) return
    this.#drawing = requestAnimationFrame(() => {
      this.#drawing = 0
      if (!this.#image) return
      this.#nv.drawScene()
      this.onDraw()
    })
  }

  /** What draws, for the diagnostics. */
  get renderer(): string {
    const { gl } = this.#nv
    const extension = gl.getExtension('WEBGL_debug_renderer_info')
    return String(gl.getParameter(extension ? extension.UNMASKED_RENDERER_WEBGL : gl.RENDERER))
  }

  get #ratio(): number {
    return this.#nv.uiData.dpr ?? 1
  }

  #drawnSize(r: number): number {
    return this.#size[this.#axes[r]!.axis]
  }

  #toDrawn(voxel: Vec3): number[] {
    return this.#axes.map(({ axis, backwards }) => (backwards ? this.#size[axis]! - 1 - voxel[axis]! : voxel[axis]!))
  }

  #fromDrawn(drawn: readonly number[]): Vec3 {
    const voxel = [0, 0, 0] as [number, number, number]
    this.#axes.forEach(({ axis, backwards }, r) => {
      voxel[axis] = backwards ? this.#size[axis]! - 1 - drawn[r]! : drawn[r]!
    })
    return voxel
  }

  #drawnBox({ min, max }: Box): Box {
    const [a, b] = [this.#toDrawn(min), this.#toDrawn(max)]
    return {
      min: a.map((v, r) => Math.min(v, b[r]!)) as unknown as Vec3,
      max: a.map((v, r) => Math.max(v, b[r]!)) as unknown as Vec3,
    }
  }

  /** The labels of a box in the order of the drawing. */
  #reordered(labels: LabelMap, { min, max }: Box): Uint8Array<ArrayBuffer> {
    const strides = [1, labels.size[0], labels.size[0] * labels.size[1]] as const
    const steps = this.#axes.map(({ axis, backwards }) => ({
      count: max[axis]! - min[axis]! + 1,
      stride: backwards ? -strides[axis]! : strides[axis]!,
      first: (backwards ? max[axis]! : min[axis]!) * strides[axis]!,
    }))
    const [x, y, z] = steps as [(typeof steps)[0], (typeof steps)[0], (typeof steps)[0]]
    const out = new Uint8Array(x.count * y.count * z.count)
    const { data } = labels
    let to = 0
    for (let k = 0; k < z.count; k++)
      for (let j = 0; j < y.count; j++) {
        let from = x.first + y.first + j * y.stride + z.first + k * z.stride
        if (x.stride === 1) {
          out.set(data.subarray(from, from + x.count), to)
          to += x.count
        } else
          for (let i = 0; i < x.count; i++) {
            out[to++] = data[from]!
            from += x.stride
          }
      }
    return out
  }

  #newLabelTexture(): void {
    const nv = this.#nv
    const dims = nv.back!.dims!
    if (nv.opts.is2DSliceShader) nv.drawTexture = nv.r8Tex2D(nv.drawTexture, nv.gl.TEXTURE7, dims, true)
    else nv.drawTexture = nv.r8Tex(nv.drawTexture, nv.gl.TEXTURE7, dims, true)
  }
}
