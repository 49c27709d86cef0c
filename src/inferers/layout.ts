/**
 * Between voxels in memory (x fastest, channels slowest) and the tensor a network takes: which memory axis each of its
 * spatial dimensions is, where its channels are, and copying boxes of voxels from one to the other.
 */

import type { Tensor, TensorSpec, TensorType } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import type { ImageField } from '../transforms/types.js'
import { lookUp } from '../transforms/value-table.js'
import { isZero } from '../volume/occupied.js'
import type { Vec3, VoxelArray } from '../volume/volume.js'

type Axis = 0 | 1 | 2

export interface Layout {
  readonly spec: TensorSpec
  readonly field: ImageField
  /** Memory axes of (slice or missing axes first) the three spatial steps, slowest first. */
  readonly order: readonly [Axis, Axis, Axis]
  /** How many of `order`, counted from the end, are dimensions of the tensor; the axes before are stepped over. */
  readonly rank: 1 | 2 | 3
  readonly channelLast: boolean
  /** Extents along `order`. */
  readonly extent: Vec3
  readonly channels: number
}

/** 'float32 [1, 1, D, H, W]', for messages. */
export function describe(spec: TensorSpec): string {
  return `${spec.type} [${spec.dims.map((dim) => dim ?? '?').join(', ')}]`
}

/**
 * `sliceAxis` is the spatial axis of the array that a 2-D network steps over; absent, the one that looks like slices.
 * Throws BAD_MODEL when the network's input cannot be fed from this image, BAD_PARAMS when this image is the odd one.
 */
export function layoutOf(field: ImageField, spec: TensorSpec, format?: string, sliceAxis?: number): Layout {
  const rank = spec.dims.length - 2
  if (rank !== 1 && rank !== 2 && rank !== 3) {
    throw new AppError('BAD_MODEL', `input '${spec.name}' is ${describe(spec)}: an image needs 4 or 5 dimensions`)
  }
  const channelLast = field.axes.includes('C')
    ? field.axes.endsWith('C') && !wantsFirst(spec, field.volume.channels)
    : format !== undefined && /C$/i.test(format) && format.length > 1
  const letters = field.axes.replace('C', '')
  const axes = [...letters].map((letter) => 'XYZ'.indexOf(letter) as Axis)
  for (const axis of [0, 1, 2] as const) if (!axes.includes(axis)) axes.push(axis)
  const order = orderFor(axes, field.volume.size, rank, sliceAxis)
  const layout: Layout = {
    spec,
    field,
    order,
    rank,
    channelLast,
    extent: order.map((axis) => field.volume.size[axis]) as unknown as Vec3,
    channels: field.volume.channels,
  }
  checkChannels(layout)
  return layout
}

/** Files of several channels come with these last; where no step moves them, the tensor tells where it has them. */
function wantsFirst({ dims }: TensorSpec, channels: number): boolean {
  return dims[1] === channels && dims.at(-1) !== channels
}

/** Axes that the tensor lacks go first: those of length 1 before any other, and of the rest the slices (z). */
function orderFor(axes: readonly Axis[], size: Vec3, rank: number, sliceAxis?: number): [Axis, Axis, Axis] {
  const kept = [...axes]
  const stepped: Axis[] = sliceAxis === undefined || rank === 3 ? [] : kept.splice(sliceAxis, 1)
  while (kept.length > rank) {
    const flat = kept.findLastIndex((axis) => size[axis] === 1)
    const at = flat >= 0 ? flat : Math.max(kept.indexOf(2), 0)
    stepped.push(...kept.splice(at, 1))
  }
  return [...stepped, ...kept] as [Axis, Axis, Axis]
}

function checkChannels({ spec, channels, channelLast, field }: Layout): void {
  const wanted = channelLast ? spec.dims.at(-1) : spec.dims[1]
  if (typeof wanted !== 'number' || wanted === channels) return
  throw new AppError(
    'BAD_PARAMS',
    `input '${spec.name}' is ${describe(spec)}: it takes ${wanted} channels, the image has ${channels}`,
    { hint: field.axes.includes('C') ? 'send an image with as many channels' : 'the config adds no channel axis' },
  )
}

/** The tensor's dimensions for `batch` boxes of `box` voxels (along `order`). */
export function tensorDims({ rank, channelLast, channels }: Layout, batch: number, box: Vec3): number[] {
  const spatial = box.slice(3 - rank)
  return channelLast ? [batch, ...spatial, channels] : [batch, channels, ...spatial]
}

/** Throws BAD_PARAMS when the network's fixed dimensions are not those of `box`. */
export function checkBox(layout: Layout, box: Vec3, what: string): void {
  const { spec, rank } = layout
  const fixed = layout.channelLast ? spec.dims.slice(1, -1) : spec.dims.slice(2)
  const given = box.slice(3 - rank)
  if (fixed.every((dim, i) => typeof dim !== 'number' || dim === given[i])) return
  throw new AppError(
    'BAD_PARAMS',
    `input '${spec.name}' is ${describe(spec)}, but ${what} is ${given.join(' x ')} in the network's axis order`,
    { hint: 'resize or pad in pre_transforms, or set scanning_window and roi' },
  )
}

/** Values of a tensor; float16 travels as float32, int64 as float64. */
export function tensorData(type: TensorType, length: number): Tensor['data'] {
  switch (type) {
    case 'float32':
    case 'float16':
      return new Float32Array(length)
    case 'float64':
    case 'int64':
      return new Float64Array(length)
    case 'int32':
      return new Int32Array(length)
    case 'int16':
      return new Int16Array(length)
    case 'int8':
      return new Int8Array(length)
    case 'uint16':
      return new Uint16Array(length)
    case 'uint8':
    case 'bool':
      return new Uint8Array(length)
  }
}

const TILE = 32

/**
 * Copies the box of `box` voxels that starts at `start` (both along `order`; parts beyond the image stay zero) into
 * `target`, all zero so far, from `offset` on, in the tensor's order.
 */
export function copyBox(layout: Layout, start: Vec3, box: Vec3, target: Tensor['data'], offset: number): void {
  const { field, order, extent, channels, channelLast } = layout
  const { size, data } = field.volume
  const memory = [1, size[0], size[0] * size[1]] as const
  const [s0, s1, s2] = order.map((axis) => memory[axis]!) as [number, number, number]
  const low = start.map((value) => Math.max(0, -value))
  const high = box.map((n, i) => Math.min(n, extent[i]! - start[i]!))
  const [l0, l1, l2] = low as [number, number, number]
  const [h0, h1, h2] = high as [number, number, number]
  const step = channelLast ? channels : 1
  const t1 = box[2] * step
  const t0 = box[1] * t1
  const voxels = size[0] * size[1] * size[2]
  const plane = box[0] * box[1] * box[2]
  for (let c = 0; c < channels; c++) {
    const from = c * voxels + start[0] * s0 + start[1] * s1 + start[2] * s2
    const to = offset + (channelLast ? c : c * plane)
    if (s2 === 1 && step === 1) {
      // Rows, and planes, that follow each other without a gap on both sides are copied as one.
      const rowsJoin = s1 === t1 && h2 - l2 === t1
      const planesJoin = rowsJoin && s0 === t0 && (h1 - l1) * t1 === t0
      const endI = planesJoin ? Math.min(h0, l0 + 1) : h0
      const endJ = rowsJoin ? Math.min(h1, l1 + 1) : h1
      const length = planesJoin ? (h0 - l0) * t0 : rowsJoin ? (h1 - l1) * t1 : h2 - l2
      for (let i = l0; i < endI; i++) {
        for (let j = l1; j < endJ; j++) {
          const row = from + i * s0 + j * s1 + l2
          target.set(data.subarray(row, row + length), to + i * t0 + j * t1 + l2)
        }
      }
    } else if (s0 === 1) copyTiled(data, target, [from, s0, s1, s2], [to, t0, t1, step], [l0, l1, l2], [h0, h1, h2])
    else if (order[0] === 2 && order[1] === 0) {
      for (let i = l0; i < h0; i++) {
        // Channels of clicks are empty nearly everywhere, and the target is zero already.
        if (isZero(data, c * voxels + (start[0] + i) * s0, s0)) continue
        copyTiled(data, target, [from, s1, s0, s2], [to, t1, t0, step], [l1, i, l2], [h1, i + 1, h2])
      }
    } else {
      for (let i = l0; i < h0; i++) {
        for (let j = l1; j < h1; j++) {
          const row = from + i * s0 + j * s1
          const out = to + i * t0 + j * t1
          for (let k = l2; k < h2; k++) target[out + k * step] = data[row + k * s2]!
        }
      }
    }
  }
  const { valueTable } = field
  if (!valueTable) return
  // a row of a tensor with its channels last holds all of them
  for (let c = 0; c < (channelLast ? 1 : channels); c++)
    for (let i = l0; i < h0; i++)
      for (let j = l1; j < h1; j++) {
        const row = offset + c * plane + i * t0 + j * t1
        lookUp(valueTable, target, row + l2 * step, row + h2 * step)
      }
}

type Four = readonly [number, number, number, number]

/** The tensor's first axis given is the fastest in memory: it and the last are walked in tiles that fit the first cache. */
function copyTiled(
  data: VoxelArray,
  target: Tensor['data'],
  [from, s0, s1, s2]: Four,
  [to, t0, t1, t2]: Four,
  [l0, l1, l2]: Vec3,
  [h0, h1, h2]: Vec3,
): void {
  for (let j = l1; j < h1; j++) {
    for (let i0 = l0; i0 < h0; i0 += TILE) {
      const i1 = Math.min(i0 + TILE, h0)
      for (let k0 = l2; k0 < h2; k0 += TILE) {
        const k1 = Math.min(k0 + TILE, h2)
        for (let i = i0; i < i1; i++) {
          const row = from + i * s0 + j * s1
          const out = to + i * t0 + j * t1
          for (let k = k0; k < k1; k++) target[out + k * t2] = data[row + k * s2]!
        }
      }
    }
  }
}
