/** A slice as the picture that an encoder was trained on: 8 bits, its size, its scale of pixels. */
import type { Tensor } from '../../contract/tensor.js'
import { percentiles } from '../../volume/stats.js'
import type { Prompted } from './layout.js'
import { area, growCubic, inOne, type LineWeights, linear, resizePlane, triangle } from './resize-picture.js'

/** Row by row from the top, channels one after the other: what a slice of a volume is in memory. */
export interface Slice {
  readonly data: ArrayLike<number>
  readonly width: number
  readonly height: number
  readonly channels: number
  /** The values are those of an 8-bit picture already. */
  readonly isBytes: boolean
}

/** Whole numbers from 0 to 255, of one or three channels. */
export interface Picture {
  readonly data: Uint8Array
  readonly width: number
  readonly height: number
  readonly channels: 1 | 3
  /** How values became black and white, for the user; undefined where they were bytes. */
  readonly note: string | undefined
}

/** Percentiles that become black and white where nobody says a window. Source: MedSAM's own preparation of MR images. */
const USUAL_PERCENTILES = [0.5, 99.5] as const

/** The first one or three channels as bytes. Colours are never windowed, and 8-bit values only where `window` says how. */
export function toPicture(slice: Slice, window: Prompted['window']): Picture {
  const { width, height } = slice
  const channels = slice.channels >= 3 ? 3 : 1
  const count = width * height * channels
  if (slice.isBytes && (channels === 3 || window === undefined)) {
    const data = new Uint8Array(count)
    for (let i = 0; i < count; i++) data[i] = slice.data[i]!
    return { data, width, height, channels, note: undefined }
  }
  const values = new Float32Array(count)
  for (let i = 0; i < count; i++) values[i] = slice.data[i]!
  const { low, high, said, foreground } = endsOf(values, window)
  const range = Math.max(high - low, 1e-8)
  const data = new Uint8Array(count)
  for (let i = 0; i < count; i++) {
    const value = values[i]!
    data[i] = foreground && value === 0 ? 0 : Math.min(Math.max(((value - low) / range) * 255, 0), 255)
  }
  const note = `the slice was shown to the network in 8 bits, from ${shown(low)} (black) to ${shown(high)} (white): ${said}`
  return { data, width, height, channels, note }
}

function endsOf(values: Float32Array, window: Prompted['window']) {
  if (window && 'level' in window) {
    const { level, width } = window
    return {
      low: level - width / 2,
      high: level + width / 2,
      said: `level ${level} and width ${width}`,
      foreground: false,
    }
  }
  const [from, to] = window?.percentiles ?? USUAL_PERCENTILES
  const foreground = window?.foreground ?? false
  const seen = foreground ? values.filter((value) => value > 0) : values
  const [low, high] = percentiles(seen.length > 0 ? seen : values, [from!, to!]) as [number, number]
  const of = foreground ? 'of its values above 0' : 'of the slice'
  return { low, high, said: `percentiles ${from} and ${to} ${of}`, foreground }
}

function shown(value: number): string {
  return `${Number(value.toPrecision(4))}`
}

/** [height, width] of the slice as the encoder sees it. */
export function seenSize(
  { resize, size }: Prompted,
  { width, height }: Pick<Picture, 'width' | 'height'>,
): readonly [number, number] {
  if (resize === 'none') return [height, width]
  if (resize === 'stretch') return size
  const scale = Math.min(size[0] / height, size[1] / width)
  return [Math.max(1, Math.floor(height * scale + 0.5)), Math.max(1, Math.floor(width * scale + 0.5))]
}

/** The encoder's input. */
export function pictureTensor(prompted: Prompted, picture: Picture): Tensor {
  const { size, pads, picture: input, resize } = prompted
  const seen = seenSize(prompted, picture)
  const [height, width] = pads && resize !== 'none' ? size : seen
  const planes = planesOf(picture, input.channels).map((plane) => resized(prompted, plane, picture, seen))
  const last = input.order.endsWith('C')
  const data = new Float32Array(height * width * input.channels)
  const scale = scaleOf(prompted, planes)
  for (let c = 0; c < input.channels; c++) {
    const plane = planes[Math.min(c, planes.length - 1)]!
    const { off, by } = scale(c)
    const step = last ? input.channels : 1
    for (let y = 0; y < seen[0]; y++) {
      let to = last ? y * width * input.channels + c : (c * height + y) * width
      for (let x = 0; x < seen[1]; x++, to += step) data[to] = (plane[y * seen[1] + x]! - off) * by
    }
  }
  const lengths = { N: 1, C: input.channels, H: height, W: width }
  const dims = [...input.order].map((letter) => lengths[letter as 'N' | 'C' | 'H' | 'W'])
  const values = input.spec.type === 'uint8' ? Uint8Array.from(data, Math.round) : data
  return { dims, data: values }
}

/** Grey as one plane, which stands for all channels; luminance of colours where the network takes grey. */
function planesOf({ data, width, height, channels }: Picture, wanted: 1 | 3): ArrayLike<number>[] {
  const n = width * height
  if (channels === 1) return [data]
  if (wanted === 3) return [0, 1, 2].map((c) => data.subarray(c * n, (c + 1) * n))
  return [
    Uint8Array.from({ length: n }, (_, i) =>
      Math.round(0.299 * data[i]! + 0.587 * data[n + i]! + 0.114 * data[2 * n + i]!),
    ),
  ]
}

function resized(
  { filter, rounds }: Prompted,
  plane: ArrayLike<number>,
  { width, height }: Picture,
  [toHeight, toWidth]: readonly [number, number],
): Float32Array {
  if (toHeight === height && toWidth === width) return Float32Array.from(plane)
  if (filter === 'cubic' && toHeight >= height && toWidth >= width)
    return growCubic(plane, width, height, [toHeight, toWidth])
  const line: (source: number, target: number) => LineWeights = filter === 'area' ? area : triangle
  return resizePlane(plane, line(width, toWidth), line(height, toHeight), rounds)
}

/** ImageNet's means and deviations of red, green and blue, of bytes. */
const MEANS = [123.675, 116.28, 103.53] as const
const DEVIATIONS = [58.395, 57.12, 57.375] as const

function scaleOf(
  { pixels, picture }: Prompted,
  planes: readonly Float32Array[],
): (channel: number) => { off: number; by: number } {
  if (pixels === 'bytes') return () => ({ off: 0, by: 1 })
  if (pixels === 'unit') return () => ({ off: 0, by: 1 / 255 })
  if (pixels === 'imagenet')
    return (c) =>
      picture.channels === 1 ? { off: MEANS[1], by: 1 / DEVIATIONS[1] } : { off: MEANS[c]!, by: 1 / DEVIATIONS[c]! }
  let [low, high] = [Infinity, -Infinity]
  for (const plane of planes) {
    for (let i = 0; i < plane.length; i++) {
      low = Math.min(low, plane[i]!)
      high = Math.max(high, plane[i]!)
    }
  }
  const by = 1 / Math.max(high - low, 1e-8)
  return () => ({ off: low, by })
}

/** How a mask of the network's size becomes one of the slice's, along columns and rows. */
export function wayBack(
  { resize, size }: Prompted,
  slice: Pick<Picture, 'width' | 'height'>,
  [maskHeight, maskWidth]: readonly [number, number],
  seen: readonly [number, number],
): { readonly columns: LineWeights; readonly rows: LineWeights } {
  if (resize !== 'longest') return { columns: linear(maskWidth, slice.width), rows: linear(maskHeight, slice.height) }
  // the mask stands for a square of the network's size, of which the slice fills the upper left
  const frame = Math.max(...size)
  return {
    columns: inOne(linear(maskWidth, frame), linear(seen[1], slice.width)),
    rows: inOne(linear(maskHeight, frame), linear(seen[0], slice.height)),
  }
}
