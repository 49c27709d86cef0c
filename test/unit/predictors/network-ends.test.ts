import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { LabelEnd, PhaseNetwork } from '../../../src/contract/tensor.js'
import { type InferenceRequest, infer } from '../../../src/inferers/infer.js'
import { makeNode } from '../../../src/onnx/graph.js'
import { writeModel } from '../../../src/onnx/model-file.js'
import { DimensionSchema } from '../../../src/onnx/onnx_pb.js'
import { fieldOf } from '../../../src/pipelines/fit-image.js'
import { chosenModel, createChosenPredictor } from '../../../src/predictors/choose-rewrites.js'
import { withEnds } from '../../../src/predictors/network-ends.js'
import { createOnnxPredictor, ENGINE, type OnnxSettings } from '../../../src/predictors/onnxruntime.js'
import type { CoreUse } from '../../../src/predictors/shared-cores.js'
import { makeSink, type Reduction, reduceStretch } from '../../../src/transforms/reduction.js'
import { makeModel, weight } from '../../helpers/onnx-model.js'
import { volumeOf } from '../../helpers/volumes.js'

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
  return withEnds(await createOnnxPredictor(path, settings), () => chosenModel(path, undefined), settings, cores)
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
  const large = withEnds(await echo(3), async () => undefined, settings, cores)
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

describe('a network whose last layer is a transposed convolution', () => {
  const CHANNELS = 128
  /** One answer to a window of 64^3 is large enough to be taken in phases. */
  const ROI = [64, 64, 64] as const
  const KERNELS = {
    merged: { kernel: [2, 2, 2], attributes: { strides: [2, 2, 2] } },
    phases: {
      kernel: [3, 3, 3],
      attributes: { strides: [2, 2, 2], pads: [1, 1, 1, 1, 1, 1], output_padding: [1, 1, 1] },
    },
  }

  /** Halves its input, then makes channels at the input's size, or, where nothing is padded, at a smaller one. */
  async function upscaling(plan: 'merged' | 'phases' | null, pads = true) {
    const path = join(folder, `up-${plan}-${pads}.onnx`)
    const { kernel, attributes } = KERNELS[plan ?? 'merged']
    const nodes = [
      makeNode('MaxPool', ['x'], 'small', { kernel_shape: [2, 2, 2], strides: [2, 2, 2] }),
      makeNode('AveragePool', ['small'], 'even', {
        kernel_shape: [3, 3, 3],
        pads: new Array<number>(6).fill(Number(pads)),
      }),
      makeNode('ConvTranspose', ['even', 'w', 'b'], 'y', attributes),
    ]
    const weights = [weight('w', [1, CHANNELS, ...kernel]), weight('b', [CHANNELS])]
    const model = makeModel(nodes, weights, ['n', 1, 'd', 'h', 'w'])
    const { dim } = model.graph!.output[0]!.type!.tensorType!.shape!
    dim[1] = create(DimensionSchema, { dimValue: BigInt(CHANNELS) })
    await writeFile(path, writeModel(model))
    const choice = { engine: ENGINE, device: 'cpu', threads: 2, plan, rewrites: {}, originalMs: 1, chosenMs: 1 }
    const predictor = await createChosenPredictor(path, settings, choice)
    return withEnds(predictor, () => chosenModel(path, choice), settings, cores)
  }

  test.each(['merged', 'phases'] as const)('gives the same labels in phases (%s)', async (plan) => {
    const network = await upscaling(plan)
    const field = {
      ...fieldOf({ volume: volumeOf([64, 64, 90], { value: (i) => (i * 37) % 101 }) }, 'volume'),
      axes: 'CZYX',
    }
    const seen: string[] = []
    const request: InferenceRequest = {
      inputs: [{ spec: network.inputs[0]!, field }],
      output: network.outputs[0]!,
      predict: async (feeds) => {
        seen.push('whole')
        return network.run(feeds)
      },
      reduction: { kind: 'argmax' },
      window: { roi: ROI, overlap: 0.5, batchSize: 1, blend: 'gaussian' },
      onProgress: async () => {},
    }
    const whole = await infer(request)
    const phases = async () => {
      const found = await network.inPhases!('y')
      if (!found) return undefined
      const run: PhaseNetwork['run'] = async (feeds) => {
        seen.push('phases')
        return found.run(feeds)
      }
      return { ...found, run }
    }
    const phased = await infer({ ...request, phases })
    if (!('volume' in whole && 'volume' in phased)) throw new Error('expected voxels')
    expect(phased.volume.data).toEqual(whole.volume.data)
    expect(new Set(whole.volume.data).size).toBeGreaterThan(1)
    expect(seen).toEqual(['whole', 'whole', 'phases', 'phases'])
    await network.close()
  })

  test.each(['merged', 'phases'] as const)(
    "is refused where its answer is not of the window's size (%s)",
    async (plan) => {
      const network = await upscaling(plan, false)
      const field = { ...fieldOf({ volume: volumeOf([64, 64, 66]) }, 'volume'), axes: 'CZYX' }
      const request: InferenceRequest = {
        inputs: [{ spec: network.inputs[0]!, field }],
        output: network.outputs[0]!,
        predict: network.run,
        reduction: { kind: 'argmax' },
        window: { roi: ROI, overlap: 0.5, batchSize: 1, blend: 'gaussian' },
        onProgress: async () => {},
      }
      const refusal = { code: 'BAD_MODEL', message: "output 'y' is 60 x 60 x 60 for a window of 64 x 64 x 64" }
      await expect(infer(request)).rejects.toMatchObject(refusal)
      await expect(infer({ ...request, phases: () => network.inPhases!('y') })).rejects.toMatchObject(refusal)
      await network.close()
    },
  )

  test('has none as it was exported, and none while others share the cores', async () => {
    const exported = await upscaling(null)
    expect(await exported.inPhases!('y')).toBeUndefined()
    const rewritten = await upscaling('merged')
    cores.shared = true
    expect(await rewritten.inPhases!('y')).toBeUndefined()
    cores.shared = false
    expect((await rewritten.inPhases!('y'))!.strides).toEqual([2, 2, 2])
    await Promise.all([exported.close(), rewritten.close()])
  })
})
