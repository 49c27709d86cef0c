/** How the scores of a window lie where a network left them, and how they get from there into the memory that sums them. */
import type { PhaseNetwork, Tensor } from '../contract/tensor.js'
import type { Vec3 } from '../volume/volume.js'
import type { WindowMemory } from './window-memory.js'

export interface WindowScores {
  /** Reads one layer of one channel into `memory`. */
  read(memory: WindowMemory, channel: number, layer: number): void
}

/** Channels `channelStride` apart, the first of them from `offset` on. */
export function plainScores(data: Tensor['data'], offset: number, channelStride: number): WindowScores {
  return {
    read: (memory, channel, layer) =>
      memory.read({ data, from: offset + channel * channelStride + layer * memory.plane }),
  }
}

/** Whether windows of `roi` voxels can be read in phases of `strides`. */
export function isReadable({ strides }: PhaseNetwork, roi: Vec3): boolean {
  return strides.length === 3 && strides[2] === 2 && strides.every((stride, axis) => roi[axis]! % stride === 0)
}

/** The dimensions that the output would have with its phases put between each other. */
export function wholeDims(outputs: Readonly<Record<string, Tensor>>, { strides, tensors }: PhaseNetwork): number[] {
  const [items, channels, ...sizes] = outputs[tensors[0]!]!.dims as [number, number, ...number[]]
  const phases = strides.reduce((product, stride) => product * stride, 1)
  const each = tensors.length < phases ? channels / phases : channels
  return [items, each, ...sizes.map((n, axis) => n * strides[axis]!)]
}

/** The `item`-th window of a batch whose answer came in phases. */
export function phasedScores(
  outputs: Readonly<Record<string, Tensor>>,
  { strides, tensors }: PhaseNetwork,
  channels: number,
  roi: Vec3,
  item: number,
): WindowScores {
  const [deep, high, wide] = strides as Vec3
  const plane = (roi[1] / high) * (roi[2] / wide)
  const voxels = (roi[0] / deep) * plane
  const phases = deep * high * wide
  const phase = (index: number, channel: number, layer: number) => {
    const isOneOfAll = tensors.length < phases
    const { data } = outputs[tensors[isOneOfAll ? 0 : index]!]!
    const place = isOneOfAll ? (item * phases + index) * channels + channel : item * channels + channel
    return { data, from: place * voxels + layer * plane }
  }
  return {
    read(memory, channel, layer) {
      const at = Math.floor(layer / deep)
      for (let row = 0; row < high; row++) {
        const first = ((layer % deep) * high + row) * wide
        memory.readHalves(row, high, phase(first, channel, at), phase(first + 1, channel, at))
      }
    },
  }
}
