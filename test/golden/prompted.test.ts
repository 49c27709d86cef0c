/**
 * Pairs of the SAM family in the layouts of public exporters, against what each one's own preparation and post-processing
 * give around the same networks; make_prompted_golden.py made both.
 */
import { mkdtempSync, readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inflateSync } from 'node:zlib'
import { afterAll, describe, expect, it, test } from 'vitest'
import type { InferenceJob } from '../../src/contract/job.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import { runInference } from '../../src/pipelines/run-inference.js'
import { type LoadedModels, loadModels } from '../../src/runner/load-model.js'
import { proveModel } from '../../src/runner/prove-model.js'
import { VolumeCache } from '../../src/runner/volume-cache.js'
import { idleControl } from '../helpers/pipeline.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Prompt {
  readonly foreground: readonly (readonly number[])[]
  readonly background: readonly (readonly number[])[]
  readonly box: readonly number[] | null
}
interface Case extends Prompt {
  readonly pair: string
  readonly image: string
  readonly mask: string
  readonly score: number
  readonly then?: { readonly background: readonly (readonly number[])[]; readonly mask: string; readonly score: number }
}

const here = (name: string) => fileURLToPath(new URL(`prompted/${name}`, import.meta.url))
const cases = JSON.parse(readFileSync(here('cases.json'), 'utf8')) as Case[]
const outDir = mkdtempSync(join(tmpdir(), 'aidant-prompted-'))

/** The three lines that make a pair a model; nothing where its tensors tell all. */
const PARTS: Readonly<Record<string, Record<string, unknown>>> = {
  sam: { layout: 'sam' },
  sam_hwc: {},
  sam_bytes: { layout: 'mobile_sam' },
  efficient_sam: {},
  sam2: {},
  medsam: { layout: 'medsam' },
  lite_medsam: {},
}
const files = (pair: string) => ({
  weightsPath: here(`${pair}_encoder.onnx`),
  morePaths: [here(`${pair.startsWith('sam_') ? 'sam' : pair}_decoder.onnx`)],
})
const settings = {
  device: { kind: 'cpu', index: 0 },
  arena: true,
  rewriteTrialMs: 0,
  cacheBytes: 0,
  networkBytes: 2 ** 30,
  maxTrialValues: 2 ** 26,
  fetch: { allow: [], deadlineMs: 1000, maxBytes: 1 },
} as const

const open = new Map<string, Promise<LoadedModels>>()
function load(pair: string, more: Record<string, unknown> = {}): Promise<LoadedModels> {
  const parts = { ...PARTS[pair], ...more }
  const name = `${pair} ${JSON.stringify(parts)}`
  const config = parseModelConfig({ type: 'deepgrow', inference: { parts } }, pair)
  const found = open.get(name) ?? loadModels({ name, revision: '1', config, ...files(pair) }, settings)
  open.set(name, found)
  return found
}
afterAll(async () => {
  for (const { model } of await Promise.all(open.values())) await model.predictor.close()
  await rm(outDir, { recursive: true, force: true })
})

/** Clicks and boxes of the goldens lie in the middle slice of a volume. */
async function ask(
  { model, parts }: LoadedModels,
  image: string,
  { foreground, background, box }: Prompt,
  { cache = new VolumeCache(0), session = undefined as string | undefined } = {},
) {
  const z = image.startsWith('ct') ? 1 : 0
  const placed = (points: Prompt['foreground']) => points.map(([x, y]) => [x!, y!, z])
  const job: InferenceJob = {
    kind: 'inference',
    task: 'deepgrow',
    images: [{ field: 'image', paths: [here(image)], ...(session === undefined ? {} : { cacheKey: session }) }],
    params: {
      foreground: placed(foreground),
      background: placed(background),
      ...(box ? { box, ...(z > 0 ? { slice: z } : {}) } : {}),
      result_extension: '.nii',
    },
    wish: { file: true, extension: '.nii' },
    outDir,
    limits: roomyLimits,
  }
  const result = await runInference(job, { model, parts, control: idleControl, cache })
  const { volume } = await readVolume([result.file!.path], roomyLimits)
  const [nx, ny, nz] = volume.size
  expect(volume.data.length).toBe(nx * ny * nz)
  const plane = volume.data.subarray(z * nx * ny, (z + 1) * nx * ny)
  const elsewhere = [...volume.data].reduce((sum, n) => sum + n, 0) - [...plane].reduce((sum, n) => sum + n, 0)
  return { plane, elsewhere, nx, result, timings: result.timings }
}

function unpacked(text: string, length: number): number[] {
  const bytes = inflateSync(Buffer.from(text, 'base64'))
  return Array.from({ length }, (_, i) => (bytes[i >> 3]! >> (7 - (i & 7))) & 1)
}

/** Pixels that differ, in thousandths of those that either mask has. */
function apart(found: ArrayLike<number>, wanted: readonly number[]): number {
  let either = 0
  let different = 0
  for (const [i, want] of wanted.entries()) {
    if (found[i] || want) either++
    if ((found[i] ? 1 : 0) !== want) different++
  }
  return (1000 * different) / Math.max(1, either)
}

/** Where values are black and white of the CT's goldens. */
const CT = { window: { level: 40, width: 400 } }
const settingsFor = (image: string) => (image.startsWith('ct') ? CT : {})
/** Rounding of resized pixels differs by one level here and there, and moves an edge by a pixel. */
const NEARLY = 4

it('a slice that was made ready answers its first click with the decoder alone, as if it had not been', async () => {
  const models = await load('sam', CT)
  const golden = cases.find(({ pair, image, box }) => pair === 'sam' && image === 'ct.nii.gz' && !box)!
  const cache = new VolumeCache(2 ** 26)
  const images = [{ field: 'image', paths: [here('ct.nii.gz')], cacheKey: 's' }]
  const job = {
    kind: 'inference',
    task: 'inference',
    images,
    params: {},
    wish: { file: false },
    outDir,
    limits: roomyLimits,
  } as const
  const prepare = (slice?: number) =>
    runInference({ ...job, prepare: slice === undefined ? {} : { slice } }, { ...models, control: idleControl, cache })
  const made = await prepare()
  expect([made.params, made.file]).toEqual([{ slice: 1 }, undefined])
  expect((await prepare(1)).timings.encoder).toBe(0)
  const { plane, timings } = await ask(models, 'ct.nii.gz', golden, { cache, session: 's' })
  expect(timings.encoder).toBe(0)
  expect(apart(plane, unpacked(golden.mask, plane.length))).toBeLessThan(NEARLY)
  expect((await prepare(2)).timings.encoder).toBeGreaterThan(0)
  await expect(prepare(3)).rejects.toMatchObject({
    code: 'BAD_PARAMS',
    message: expect.stringContaining("'slice' is 3"),
  })
})

describe.each(Object.keys(PARTS))('%s', (pair) => {
  const own = cases.filter((one) => one.pair === pair)

  it('is proved at PUT', async () => {
    await expect(proveModel(await load(pair), 2 ** 26)).resolves.toMatchObject({ device: 'cpu' })
  })

  test.each(
    own.map(
      (one) =>
        [
          `${one.image}: ${one.foreground.length} in, ${one.background.length} out${one.box ? ', box' : ''}`,
          one,
        ] as const,
    ),
  )('%s', async (_, golden) => {
    const models = await load(pair, settingsFor(golden.image))
    const { plane, elsewhere, result } = await ask(models, golden.image, golden)
    const wanted = unpacked(golden.mask, plane.length)
    expect(wanted.includes(1)).toBe(true)
    expect(apart(plane, wanted)).toBeLessThan(NEARLY)
    expect(elsewhere).toBe(0)
    expect(result.params.mask_quality).toBeCloseTo(golden.score, 1)
  })

  test.each(own.filter(({ then }) => then).map((one) => [one.image, one] as const))(
    '%s: a further click in a session goes on from the mask before, with the decoder alone',
    async (image, golden) => {
      const models = await load(pair, settingsFor(image))
      const within = { cache: new VolumeCache(2 ** 26), session: 's' }
      const first = await ask(models, image, golden, within)
      expect(first.timings.encoder).toBeGreaterThan(0)
      const further = { ...golden, background: golden.then!.background }
      const second = await ask(models, image, further, within)
      expect(second.timings.encoder).toBe(0)
      expect(apart(second.plane, unpacked(golden.then!.mask, second.plane.length))).toBeLessThan(NEARLY)
      expect(second.result.params.mask_quality).toBeCloseTo(golden.then!.score, 1)
      // taking the click back, or beginning elsewhere, goes on from no mask
      expect([...(await ask(models, image, golden, within)).plane]).toEqual([...first.plane])
    },
  )
})
