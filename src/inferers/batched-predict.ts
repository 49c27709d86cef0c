/** Several callers that each feed one item, answered by one run of the network. */
import type { Predict, Tensor } from '../contract/tensor.js'

export interface BatchedPredict {
  /** Waits until every member of the group has fed its item or left. Items of other shapes run on their own. */
  readonly predict: Predict
  /** For a member that failed before it fed anything. */
  readonly leave: () => void
}

interface Waiting {
  readonly feeds: Readonly<Record<string, Tensor>>
  readonly resolve: (outputs: Readonly<Record<string, Tensor>>) => void
  readonly reject: (error: unknown) => void
}

/** A predict for a group of `members`, each of which calls it once. Tensors join along their first dimension. */
export function batchedPredict(run: Predict, members: number): BatchedPredict {
  const waiting: Waiting[] = []
  let missing = members

  const runWhenAll = (): void => {
    if (missing > 0) return
    for (const group of groupByShape(waiting.splice(0))) void runGroup(run, group)
  }
  return {
    predict: (feeds) =>
      new Promise((resolve, reject) => {
        waiting.push({ feeds, resolve, reject })
        missing--
        runWhenAll()
      }),
    leave: () => {
      missing--
      runWhenAll()
    },
  }
}

function groupByShape(waiting: readonly Waiting[]): Waiting[][] {
  const groups = new Map<string, Waiting[]>()
  for (const one of waiting) {
    const key = JSON.stringify(Object.entries(one.feeds).map(([name, { dims }]) => [name, dims]))
    groups.set(key, [...(groups.get(key) ?? []), one])
  }
  return [...groups.values()]
}

async function runGroup(run: Predict, group: readonly Waiting[]): Promise<void> {
  try {
    const [first] = group
    const feeds: Record<string, Tensor> = {}
    for (const name of Object.keys(first!.feeds)) feeds[name] = joined(group.map((one) => one.feeds[name]!))
    const outputs = await run(feeds)
    for (const [i, { resolve }] of group.entries()) {
      const own: Record<string, Tensor> = {}
      for (const [name, tensor] of Object.entries(outputs)) own[name] = part(tensor, i, group.length)
      resolve(own)
    }
  } catch (error) {
    for (const { reject } of group) reject(error)
  }
}

function joined(tensors: readonly Tensor[]): Tensor {
  const [first] = tensors
  if (tensors.length === 1) return first!
  const each = first!.data.length
  const data = new (first!.data.constructor as new (length: number) => Float32Array)(each * tensors.length)
  for (const [i, tensor] of tensors.entries()) data.set(tensor.data, i * each)
  return { dims: [first!.dims[0]! * tensors.length, ...first!.dims.slice(1)], data }
}

function part({ dims, data }: Tensor, index: number, count: number): Tensor {
  const each = data.length / count
  return {
    dims: [dims[0]! / count, ...dims.slice(1)],
    data: data.subarray(index * each, (index + 1) * each) as Tensor['data'],
  }
}
