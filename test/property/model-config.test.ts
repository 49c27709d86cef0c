/** Whatever JSON comes, a config is read or refused in words; nothing else ever happens. */
import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { buildTransforms } from '../../src/pipelines/model-run.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import { bundleConfig } from '../../src/registry/monai-bundle.js'

const folder = new URL('../fixtures/configs/', import.meta.url)
const samples = readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8'))

function readOrRefuse(value: unknown): void {
  try {
    // Through text, as it comes over the wire: JSON has no -0.
    const config = parseModelConfig(JSON.parse(JSON.stringify(value)), 'model')
    // What was accepted crosses to a runner as JSON and must come out the same.
    expect(JSON.parse(JSON.stringify(config))).toEqual(config)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    expect(error.code).toBe('BAD_MODEL_CONFIG')
    expect(error.message).toMatch(/^config/)
  }
}

test('any JSON', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (json) => readOrRefuse(json)),
    { numRuns: 500 },
  )
})

test('a real config with any value anywhere replaced', () => {
  const places = (json: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] =>
    typeof json === 'object' && json !== null
      ? Object.entries(json).flatMap(([key, value]) => [[...path, key], ...places(value, [...path, key])])
      : []
  fc.assert(
    fc.property(fc.constantFrom(...samples), fc.nat(), fc.jsonValue({ maxDepth: 2 }), (text, at, value) => {
      const json = JSON.parse(text)
      const all = places(json)
      const path = all[at % all.length]!
      const parent = path.slice(0, -1).reduce((inner, key) => inner[key], json)
      parent[path.at(-1)!] = value
      readOrRefuse(json)
    }),
    { numRuns: 1000 },
  )
})

/** Copied to clients as they are, or of engines that are not here, as the echoes of a dumped record; all else means something. */
const FREE = /^(additional_info|meta_data|node_mapping|triton|trtis|tf|triton_model_config|input_nodes|output_nodes)$/

type Path = readonly (string | number)[]
type Json = Record<string | number, unknown>

/** The paths of all objects below `json`, its own included, but not of those that hold what they like. */
function objects(json: unknown, path: Path = []): Path[] {
  if (typeof json !== 'object' || json === null) return []
  const inside = Object.entries(json).flatMap(([key, value]) => {
    // of a writer's arguments only the field and the type are ours to read
    if (FREE.test(key) || key.startsWith('inference_') || (key === 'args' && path.at(-1) === 'writer')) return []
    return objects(value, [...path, Array.isArray(json) ? Number(key) : key])
  })
  return Array.isArray(json) ? inside : [path, ...inside]
}

const at = (json: unknown, path: Path): Json => path.reduce((inner: unknown, key) => (inner as Json)[key], json) as Json
const said = (path: Path): string => path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${step}`)).join('')
const unknownKey = fc.stringMatching(/^zz[a-z_]{1,10}$/)

function refusalOf(work: () => unknown): string {
  try {
    work()
  } catch (error) {
    if (error instanceof AppError && error.code === 'BAD_MODEL_CONFIG') return error.message
    throw error
  }
  return ''
}

test('a key that nobody knows is refused with its path, wherever it stands', () => {
  const sound = samples.filter(
    (text) => refusalOf(() => buildTransforms(parseModelConfig(JSON.parse(text), 'm'))) === '',
  )
  expect(sound.length).toBeGreaterThan(5)
  fc.assert(
    fc.property(fc.constantFrom(...sound), fc.nat(), unknownKey, (text, nth, key) => {
      const json = JSON.parse(text)
      // a dumped record is one model under its name
      const root = 'type' in json ? json : Object.values(json)[0]
      const all = objects(root)
      const path = all[nth % all.length]!
      at(root, path)[key] = 1
      const message = refusalOf(() => buildTransforms(parseModelConfig(json, 'model')))
      expect(message).toContain(`config${said(path)}`)
      expect(message).toContain(key)
    }),
    { numRuns: 300 },
  )
})

const bundle = {
  size: [8, 8, 8],
  preprocessing: {
    _target_: 'Compose',
    transforms: [
      { _target_: 'LoadImaged', keys: 'image' },
      { _target_: 'EnsureChannelFirstd', keys: 'image' },
      { _target_: 'Spacingd', keys: 'image', pixdim: [1, 1, 1], mode: 'bilinear' },
      { _target_: 'Compose', transforms: [{ _target_: 'ScaleIntensityd', keys: 'image', minv: 0 }] },
    ],
  },
  inferer: { _target_: 'SlidingWindowInferer', roi_size: '@size', overlap: 0.5, padding_mode: 'replicate' },
  postprocessing: {
    _target_: 'Compose',
    transforms: [
      { _target_: 'Activationsd', keys: 'pred', softmax: true },
      { _target_: 'Invertd', keys: 'pred', transform: '@preprocessing', nearest_interp: false },
      { _target_: 'AsDiscreted', keys: 'pred', argmax: true },
    ],
  },
}

test('an argument that nobody knows is refused, wherever it stands in a bundle', () => {
  fc.assert(
    fc.property(fc.nat(), unknownKey, (nth, key) => {
      const json = structuredClone(bundle)
      const all = objects(json).filter((path) => path.length > 0)
      at(json, all[nth % all.length]!)[key] = 1
      const read = () => parseModelConfig(bundleConfig({ task: 'segmentation' }, json), 'model')
      const message = refusalOf(() => buildTransforms(read()))
      expect(message).toContain(key)
      expect(message).toMatch(/^(config|inference\.json: )/)
    }),
    { numRuns: 100 },
  )
})
