/**
 * The 3-D view: NiiVue behind our own words, fetched when it is first wanted. It is given the scan and the labels coarsened to
 * what a graphics card turns fluently, in the axes R, A, S.
 */
import { CoarseGrid } from './coarse-grid.js'
import type { Box, PatientAxis, Vec3 } from './geometry.js'
import type { LabelMap } from './label-map.js'
import { displayNifti, type Voxels } from './nifti.js'
import type { Niivue } from './vendor/niivue.js'

/** Voxels that are drawn: 192^3, and 128^3 where the processor has to do it. */
const MOST_VOXELS = 192 ** 3
const MOST_VOXELS_IN_SOFTWARE = 128 ** 3
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i

/** A scan as it is drawn; `axes`: the voxel axes along R, A and S. */
export interface Rendered {
  readonly data: Voxels
  readonly size: Vec3
  readonly spacing: Vec3
  readonly axes: readonly PatientAxis[]
}

export class VolumeRender {
  readonly #canvas: HTMLCanvasElement
  #nv: Niivue | undefined
  #grid: CoarseGrid | undefined
  /** Of the coarse grid. */
  #labels = new Uint8Array()

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas
  }

  /** What draws, in the driver's words; undefined where there is no WebGL2. */
  static readonly renderer: string | undefined = rendererOf()

  /** Whether the processor draws: 3-D then takes a while, and is drawn only where it is asked for alone. */
  static get isSoftware(): boolean {
    return SOFTWARE.test(VolumeRender.renderer ?? '')
  }

  get isReady(): boolean {
    return this.#grid !== undefined
  }

  async show({ data, size, spacing, axes }: Rendered, window: readonly [number, number]): Promise<void> {
    const nv = await this.#start()
    const grid = new CoarseGrid(size, spacing, axes, VolumeRender.isSoftware ? MOST_VOXELS_IN_SOFTWARE : MOST_VOXELS)
    while (nv.volumes.length > 0) nv.removeVolumeByIndex(0)
    await nv.loadFromArrayBuffer(displayNifti(grid.sample(data), grid.size, grid.spacing), 'scan.nii')
    nv.createEmptyDrawing()
    this.#labels = new Uint8Array(grid.voxels)
    this.#grid = grid
    this.window = window
  }

  clear(): void {
    this.#grid = undefined
  }

  set window([low, high]: readonly [number, number]) {
    const drawn = this.#nv?.volumes[0]
    if (!drawn) return
    drawn.cal_min = low
    drawn.cal_max = high
    this.#nv!.updateGLVolume()
  }

  /** Draws the labels in these colours, 4 bytes for each of 256; those without opacity are not there. */
  showLabels(colors: Uint8ClampedArray): void {
    const nv = this.#nv
    if (!nv || !this.#grid) return
    nv.drawLut = { lut: colors, labels: Array.from({ length: 256 }, () => '') } as never
    nv.refreshColormaps()
    nv.drawBitmap = this.#labels.map((label) => (colors[4 * label + 3] === 0 ? 0 : label))
    nv.refreshDrawing(false)
  }

  /** How much of the scan stands before the segments: 1 hides what is inside. */
  set scanOpacity(opacity: number) {
    const drawn = this.#nv?.volumes[0]
    if (!drawn || drawn.opacity === opacity) return
    drawn.opacity = opacity
    this.#nv!.updateGLVolume()
  }

  /** Takes over the labels inside a box. */
  updateLabels(labels: LabelMap, box?: Box): void {
    this.#grid?.sampleLabels(this.#labels, labels, box)
  }

  /** Degrees. */
  turn(azimuth: number, elevation: number): void {
    const nv = this.#nv
    if (!nv) return
    const { renderAzimuth, renderElevation } = nv.scene
    nv.scene.renderAzimuth = (renderAzimuth + azimuth + 360) % 360
    nv.scene.renderElevation = Math.min(90, Math.max(-90, renderElevation + elevation))
  }

  draw(): void {
    this.#nv?.resizeListener()
    this.#nv?.drawScene()
  }

  async #start(): Promise<Niivue> {
    if (this.#nv) return this.#nv
    const { Niivue, SLICE_TYPE } = await import('./vendor/niivue.js')
    const nv = new Niivue({
      interactive: false,
      dragAndDropEnabled: false,
      backColor: [0, 0, 0, 1],
      crosshairWidth: 0,
      show3Dcrosshair: false,
      isOrientationTextVisible: false,
      isOrientCube: true,
      smoothDrawing: 1,
      loadingText: '',
      logLevel: 'error',
    })
    await nv.attachToCanvas(this.#canvas)
    nv.setSliceType(SLICE_TYPE.RENDER)
    nv.drawOpacity = 1
    // From the front, a little from the side and above.
    nv.scene.renderAzimuth = 160
    nv.scene.renderElevation = 15
    this.#nv = nv
    return nv
  }
}

function rendererOf(): string | undefined {
  const gl = document.createElement('canvas').getContext('webgl2')
  if (gl === null) return undefined
  const extension = gl.getExtension('WEBGL_debug_renderer_info')
  const name = String(gl.getParameter(extension ? extension.UNMASKED_RENDERER_WEBGL : gl.RENDERER))
  // A browser gives few contexts, and takes the oldest back when there are too many.
  gl.getExtension('WEBGL_lose_context')?.loseContext()
  return name
}
