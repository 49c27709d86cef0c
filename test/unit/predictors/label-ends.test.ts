import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { LabelEnd } from '../../../src/contract/tensor.js'
import { makeNode } from '../../../src/onnx/graph.js'
import { readModelFile, writeModel } from '../../../src/onnx/model-file.js'
import { withLabelEnds } from '../../../src/predictors/label-ends.js'
import { createOnnxPredictor, type OnnxSettings } from '../../../src/predictors/onnxruntime.js'
import type { CoreUse } from '../../../src/predictors/shared-cores.js'
import { makeSink, type Reduction, reduceStretch } from '../../../src/transforms/reduction.js'
import { makeModel } from '../../helpers/onnx-model.js'

const settings: OnnxSettings = { device: { kind: 'cpu', index: 0 }, session: {}, arena: false }

const cores: CoreUse = { shared: false }

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'aidant-ends-'))
})
afterAll(() => rm(folder, { recursive: true }))

/** A network that gives its input, whose channels are scores. */
async function echo(channels: number) {
  const path = join(folder, `echo-${channels}.onnx`)
  const model = makeModel([makeNode('Identity', ['x'], 'y')], [], ['n', channels, 'd', 'h', 'w'])
  const [axis] = model.graph!.output[0]!.type!.tensorType!.shape!.dim.splice(1, 1)
  model.graph!.output[0]!.type!.tensorType!.shape!.dim.splice(1, 0, {
    ...axis!,
    dimParam: '',
    dimValue: BigInt(channels),
  })
  await writeFile(path, writeModel(model))
  return withLabelEnds(await createOnnxPredictor(path, settings), () => readModelFile(path, 2 ** 20), settings, cores)
}

/** Scores among which many are equal, and some are no numbers. */
const scoresOf = (length: number) =>
  Float32Array.from({ length }, (_, i) => [Number.NaN, Infinity, -Infinity, 0, -0, 0.5, 1, 2, 3][(i * 7919) % 9]!)

describe.each([
  { what: 'an argmax over two classes', channels: 2, end: { kind: 'argmax' }, ours: { kind: 'argmax' } },
  { what: 'an argmax over 300 classes', channels: 300, end: { kind: 'argmax' }, ours: { kind: 'argmax' } },
  ...[0.5, 0.1, 1 / 3, -0.7, Infinity, -Infinity].map((at) => ({
    ...{ what: `a threshold at ${at}`, channels: 3, end: { kind: 'threshold' as const, from: at } },
    ours: { kind: 'threshold' as const, at, activation: 'none' as const },
  })),
] as { what: string; channels: number; end: LabelEnd; ours: Reduction }[])('$what', ({ channels, end, ours }) => {
  test('in the graph says what ours says of the same scores', async () => {
    const voxels = 4 * 5 * 6
    const scores = scoresOf(channels * voxels)
    const sink = makeSink(ours, channels, voxels)
    const stretch = { scores, start: 0, channelStride: voxels, step: 1, channels, length: voxels }
    reduceStretch(ours, stretch, sink, 0, voxels)
    const network = await echo(channels)
    const labels = (await network.endingIn!('y', end))!
    const answer = (await labels.run({ x: { dims: [1, channels, 4, 5, 6], data: scores } }))[labels.output.name]!
    expect(answer.dims).toEqual([1, end.kind === 'argmax' ? 1 : channels, 4, 5, 6])
    expect(Array.from(answer.data)).toEqual(Array.from(sink.data))
    await network.close()
  })
})

test('what was given up is not opened again; scores are still to be had', async () => {
  const network = await echo(2)
  const labels = await network.endingIn!('y', { kind: 'argmax' })
  await labels!.giveUp()
  expect(await network.endingIn!('y', { kind: 'argmax' })).toBeUndefined()
  const x = { dims: [1, 2, 1, 1, 1], data: Float32Array.of(1, 2) }
  expect((await network.run({ x })).y!.data).toEqual(x.data)
  await network.close()
})

test('a network without that output, or too large to be read, has no labels', async () => {
  const network = await echo(2)
  expect(await network.endingIn!('z', { kind: 'argmax' })).toBeUndefined()
  await network.close()
  const large = withLabelEnds(await echo(3), async () => undefined, settings, cores)
  expect(await large.endingIn!('y', { kind: 'argmax' })).toBeUndefined()
  await large.close()
})

test('while others share the cores there are none, and then there are again', async () => {
  const network = await echo(2)
  cores.shared = true
  expect(await network.endingIn!('y', { kind: 'argmax' })).toBeUndefined()
  cores.shared = false
  expect(await network.endingIn!('y', { kind: 'argmax' })).toBeDefined()
  await network.close()
})
