/** The slice that a plane shows, kept as two small canvases, one pixel a voxel: it is painted anew only where something changed. */
import type { Vec3 } from './geometry.js'
import type { Plane } from './planes.js'
import type { ScanImage } from './scan.js'
import { paintColour, paintGrey, paintLabels, type SliceGrid, sliceGrid } from './slice-painter.js'

/** What all slices of an image share. */
export interface Look {
  readonly image: ScanImage
  readonly size: Vec3
  readonly window: readonly [number, number]
  readonly frame: number
  readonly labels: Uint8Array
  readonly colors: Uint32Array
  readonly edges: Uint32Array | undefined
}

export class SlicePicture {
  readonly plane: Plane
  readonly image = new Layer()
  readonly labels = new Layer()
  #slice = -1
  #isImageStale = true
  #areLabelsStale = true
  #hasLabels = false
  #version = 0

  constructor(plane: Plane) {
    this.plane = plane
  }

  /** Grows with every change, so that a drawing knows whether it is the latest. */
  get version(): number {
    return this.#version
  }

  get hasLabels(): boolean {
    return this.#hasLabels
  }

  /** The window, the time point: the image is to be painted anew. */
  dropImage(): void {
    this.#isImageStale = true
  }

  /** The labels between two slices, or their colours, have changed. */
  dropLabels(from = 0, to = Number.POSITIVE_INFINITY): void {
    if (this.#slice >= from && this.#slice <= to) this.#areLabelsStale = true
  }

  update(look: Look, slice: number): void {
    const grid = sliceGrid(look.size, this.plane, slice)
    const isOther = slice !== this.#slice
    this.#slice = slice
    if (isOther || this.#isImageStale) {
      this.#isImageStale = false
      this.image.paint(grid, (pixels) => paintImage(pixels, look, grid))
      this.#version++
    }
    if (isOther || this.#areLabelsStale) {
      this.#areLabelsStale = false
      const had = this.#hasLabels
      this.#hasLabels = this.labels.paint(grid, (pixels) =>
        paintLabels(pixels, look.labels, grid, look.colors, look.edges),
      )
      if (had || this.#hasLabels) this.#version++
    }
  }
}

function paintImage(pixels: Uint32Array, { image, window, frame, size }: Look, grid: SliceGrid): boolean {
  const voxels = size[0] * size[1] * size[2]
  if (image.colours === undefined) paintGrey(pixels, image.data, grid, window, frame * voxels)
  else paintColour(pixels, image.data, grid, window, frame * voxels * image.colours, voxels)
  return true
}

class Layer {
  readonly canvas = document.createElement('canvas')
  #pixels: ImageData | undefined

  /** `work` fills the pixels and says whether anything is to be seen. */
  paint({ width, height }: SliceGrid, work: (pixels: Uint32Array) => boolean): boolean {
    if (this.#pixels?.width !== width || this.#pixels.height !== height) {
      this.canvas.width = width
      this.canvas.height = height
      this.#pixels = new ImageData(width, height)
    }
    const isSeen = work(new Uint32Array(this.#pixels.data.buffer))
    if (isSeen) this.canvas.getContext('2d')!.putImageData(this.#pixels, 0, 0)
    return isSeen
  }
}
