/** Test-time augmentation by mirroring: a network sees the image every way round, and its answers, turned back, are averaged. */
import type { Predict, Tensor } from '../contract/tensor.js'

/**
 * `predict` over every combination of `axes`, which count the spatial dimensions of the tensors (after batch and channels).
 * Outputs without spatial dimensions are averaged as they are.
 */
export function mirrored(predict: Predict, axes: readonly number[]): Predict {
  const ways = combinations(axes.map((axis) => axis + 2))
  return async (feeds) => {
    const rank = Math.max(...Object.values(feeds).map(({ dims }) => dims.length))
    const turned = (tensors: Readonly<Record<string, Tensor>>, way: readonly number[]) =>
      Object.fromEntries(
        Object.entries(tensors).map(([name, tensor]) => [name, tensor.dims.length < rank ? tensor : flip(tensor, way)]),
      )
    const sums = new Map<string, Tensor>()
    for (const way of ways) {
      const outputs = turned(await predict(turned(feeds, way)), way)
      for (const [name, tensor] of Object.entries(outputs)) addTo(sums, name, tensor)
    }
    return means(sums, ways.length)
  }
}

/** All subsets, the empty one first. */
function combinations(axes: readonly number[]): number[][] {
  const all: number[][] = [[]]
  for (const axis of axes) all.push(...all.map((one) => [...one, axis]))
  return all
}

/** Adds to the sum of that name; the first is copied, since a network may use its output's memory again. */
function addTo(sums: Map<string, Tensor>, name: string, { dims, data }: Tensor): void {
  const sum = sums.get(name)
  if (!sum) {
    sums.set(name, { dims, data: data instanceof Float64Array ? data.slice() : new Float32Array(data) })
    return
  }
  for (let i = 0; i < data.length; i++) sum.data[i]! += data[i]!
}

function means(sums: ReadonlyMap<string, Tensor>, count: number): Record<string, Tensor> {
  for (const { data } of sums.values()) for (let i = 0; i < data.length; i++) data[i]! /= count
  return Object.fromEntries(sums)
}

function flip(tensor: Tensor, axes: readonly number[]): Tensor {
  return axes.reduce(flipOne, tensor)
}

function flipOne({ dims, data }: Tensor, axis: number): Tensor {
  const inner = dims.slice(axis + 1).reduce((product, dim) => product * dim, 1)
  const n = dims[axis]!
  const block = n * inner
  const out = data.slice()
  for (let start = 0; start < data.length; start += block) {
    if (inner === 1) out.subarray(start, start + n).reverse()
    else
      for (let i = 0; i < n; i++) {
        const from = start + (n - 1 - i) * inner
        out.set(data.subarray(from, from + inner), start + i * inner)
      }
  }
  return { dims, data: out }
}
