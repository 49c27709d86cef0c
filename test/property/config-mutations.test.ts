/**
 * Nothing in a config is ignored in silence: whatever is changed in one that is accepted is refused, or has an effect on the
 * pipeline that is run, or stands on the closed list of what only describes (docs/models.md), or is named by a note.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, it, test } from 'vitest'
import { parse as parseYaml } from 'yaml'
import type { Predictor } from '../../src/contract/tensor.js'
import { AppError } from '../../src/errors.js'
import { buildTransforms, planModel, writerField } from '../../src/pipelines/model-run.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'
import type { LoadedModel } from '../../src/pipelines/run.js'
import { bundleConfig, IDLE_PARTS } from '../../src/registry/monai-bundle.js'
import { proveModel } from '../../src/runner/prove-model.js'
import { type BuiltTransform, DEFINITIONS, shapeOf } from '../../src/transforms/catalog.js'
import { DESCRIBING } from '../../src/transforms/describing.js'
import { sharedData } from '../helpers/shared-data.js'

type Json = Record<string, unknown>
type Path = readonly (string | number)[]

interface Sample {
  readonly name: string
  readonly json: Json
  /** Channels in, channels out, spatial dimensions of the network; no dimensions of a pipeline of models. */
  readonly network: readonly [number, number, number]
  readonly metadata?: unknown
}

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))
const readJson = (path: string): Json => JSON.parse(readFileSync(path, 'utf8'))

const FIXTURES: Readonly<Record<string, Sample['network']>> = {
  'deepgrow-2d-v4': [3, 1, 2],
  'deepgrow-3d-v4': [3, 1, 3],
  'deepgrow-pipeline-v4': [1, 1, 0],
  'liver-kserve': [1, 2, 3],
  'spleen-annotation-v3': [2, 2, 3],
  'spleen-v2': [1, 2, 3],
  'spleen-v3': [1, 2, 3],
  'spleen-v4': [1, 2, 3],
}
const BUNDLED: Readonly<Record<string, Sample['network']>> = {
  brain_mri: [1, 1, 3],
  deepgrow_2d: [5, 1, 2],
  deepgrow_3d: [3, 1, 3],
  dextr3d: [2, 1, 3],
  hippocampus_mri: [1, 3, 3],
  modality_2d: [1, 6, 2],
}
const samples: Sample[] = [
  ...Object.entries(FIXTURES).map(([name, network]) => ({
    name,
    network,
    json: readJson(here(`../fixtures/configs/${name}.json`)),
  })),
  ...Object.entries(BUNDLED).map(([name, network]) => ({
    name: `models/${name}`,
    network,
    json: readJson(here(`../../models/${name}/config_aiaa.json`)),
  })),
]

const ZOO: Readonly<Record<string, Sample['network']>> = {
  brats_mri_segmentation: [4, 3, 3],
  breast_density_classification: [3, 4, 2],
  classification_template: [1, 4, 2],
  endoscopic_tool_segmentation: [3, 2, 2],
  multi_organ_segmentation: [1, 8, 3],
  pediatric_abdominal_ct_segmentation: [1, 4, 3],
  prostate_mri_anatomy: [1, 3, 3],
  renalStructures_CECT_segmentation: [3, 6, 3],
  renalStructures_UNEST_segmentation: [1, 4, 3],
  spleen_ct_segmentation: [1, 2, 3],
  ventricular_short_axis_3label: [1, 4, 2],
  wholeBody_ct_segmentation: [1, 105, 3],
  wholeBrainSeg_Large_UNEST_segmentation: [1, 133, 3],
}
const zoo = join(sharedData ?? '', 'zoo')
const bundles: Sample[] =
  sharedData === undefined || !existsSync(zoo)
    ? []
    : readdirSync(zoo)
        .filter((name) => name in ZOO)
        .map((name) => {
          const folder = join(zoo, name, 'configs')
          const file = readdirSync(folder).find((entry) => entry.startsWith('inference.'))!
          const text = readFileSync(join(folder, file), 'utf8')
          const json = file.endsWith('.json') ? JSON.parse(text) : parseYaml(text, { version: '1.1' })
          return { name, json, network: ZOO[name]!, metadata: readJson(join(folder, 'metadata.json')) }
        })

/** What a model of that config does, as far as a config says it; arguments of the closed list left out. */
interface Derived {
  readonly digest: string
  readonly notes: string
}

function described(step: BuiltTransform): unknown {
  const shape = shapeOf(step.definition.args)
  const args = Object.entries(step.args as Json).filter(([key]) => !closed.has(shape[key]))
  return [step.definition.names[0], Object.fromEntries(args)]
}

/** A network of those channels that gives zeros, under the names that the config has for its tensors. */
function networkOf([channels, classes, rank]: Sample['network'], type: string, names: readonly string[]): Predictor {
  const spatial = ['x', 'y', 'z'].slice(0, rank)
  const named = (...known: string[]) => names.find((name) => known.includes(name)) ?? known[0]!
  const output = named('OUTPUT__0', 'output')
  const dims = type === 'classification' ? ['n', classes] : ['n', classes, ...spatial]
  return {
    inputs: [{ name: named('INPUT__0', 'input'), type: 'float32', dims: ['n', channels, ...spatial] }],
    outputs: [{ name: output, type: 'float32', dims }],
    device: 'cpu',
    fallbackReason: undefined,
    run: async (feeds) => {
      const fed = Object.values(feeds)[0]!.dims
      const shape = type === 'classification' ? [fed[0]!, classes] : [fed[0]!, classes, ...fed.slice(2)]
      return { [output]: { dims: shape, data: new Float32Array(shape.reduce((n, d) => n * d, 1)) } }
    },
    close: async () => {},
  }
}

/** Throws what a PUT refuses. The tensors of the sample as it is name those of the network. */
async function derive(
  { name, json, network, metadata }: Sample,
  tensors: readonly string[] = tensorsOf(json),
): Promise<Derived> {
  const raw = metadata === undefined ? json : bundleConfig(metadata, json)
  // through text, as it is kept
  const config = parseModelConfig(JSON.parse(JSON.stringify(raw)), name)
  const { pre, post } = buildTransforms(config)
  const { notes = [], ...info } = config.info
  const { preTransforms, postTransforms, writer, inference, ...rest } = config
  const predictor = networkOf(network, config.type, tensors)
  const model = { ref: { name, revision: '1', config }, predictor } as LoadedModel
  // a pipeline of models has no network of its own
  if (config.type !== 'pipeline') await proveModel({ model, parts: [] }, 2 ** 21)
  const plan = planModel(model)
  const fields = [
    plan.mapping.inputs.map(({ field }) => field),
    plan.mapping.outputs.map(({ field }) => field),
    ...[plan.resultField, plan.content ?? null],
  ]
  const { nodeMapping, image, ...run } = inference
  const dtype = [writer?.args.dtype, writer?.args.dtypes].flat().find((value) => value !== undefined)
  const digest = JSON.stringify([
    ...[rest, info, run, pre.map(described), post.map(described), fields, writerField(config), dtype],
  ])
  return { digest, notes: JSON.stringify(notes) }
}

function tensorsOf(json: Json): string[] {
  const { inference } = json as { inference?: { node_mapping?: Record<string, string> } }
  return Object.entries(inference?.node_mapping ?? {}).flat()
}

// ---- the closed list, as docs/models.md has it ----

/** Of a config_aiaa.json: keys, by their path, that only describe. A star is any one step, two are any number of steps. */
const DESCRIBES = [
  'name',
  'format',
  'path',
  'inference.name',
  'inference.path',
  'inference.AIAA.name',
  'inference.AIAA.path',
  'inference.TRITON.**',
  '**.trtis.**',
  '**.triton.**',
  '**.triton_model_config.**',
  '**.device',
  '**.sw_device',
  'inference.channel_first',
  'inference.args.batch_size',
  'inference.AIAA.args.batch_size',
  'pre_transforms.*.path',
  'post_transforms.*.path',
  'pre_transforms.*.from',
  'post_transforms.*.from',
  'writer.path',
  'writer.from',
  ...['json', 'compressed', 'revert_canonical', 'squeeze', 'nibabel', 'ref_image', 'meta_key_postfix'].map(
    (key) => `writer.args.${key}`,
  ),
  ...['key_extension', 'key_dtype', 'key_compress', 'key_write_to_file'].map((key) => `writer.args.${key}`),
]
const steps = { '*': '[^.]+', '**': '.*' } as const
const patterns = DESCRIBES.map(
  (path) =>
    new RegExp(
      `^${path
        .split('.')
        .map((step) => steps[step as '*'] ?? step)
        .join('\\.')
        .replaceAll('.*\\.', '(?:.*\\.)?')
        .replaceAll('\\..*', '(?:\\..*)?')}$`,
    ),
)

const closed = new Set<unknown>(Object.values(DESCRIBING))
const isClosed = (name: string, key: string): boolean => {
  const definition = DEFINITIONS.find(({ names }) => names.includes(name.split('.').at(-1)!))
  return definition !== undefined && closed.has(shapeOf(definition.args)[key])
}

/** Values of a bundle that arguments of the closed list alone refer to. */
const ONLY_FOR_CLOSED = ['classification_template.num_classes']

function onlyDescribes({ name, json, metadata }: Sample, path: Path): boolean {
  if (ONLY_FOR_CLOSED.includes([name, ...path].join('.'))) return true
  if (metadata !== undefined) return describesInBundle(json, path)
  const words = path.join('.')
  if (patterns.some((pattern) => pattern.test(words))) return true
  const [list, nth, args, key] = path
  const step = (json[list as string] as { name: string }[] | undefined)?.[nth as number]
  return args === 'args' && key !== undefined && step?.name !== undefined && isClosed(step.name, String(key))
}

/** What bundle-transforms.ts and monai-bundle.ts say of places, besides. */
const PLACES = new Set([
  ...['device', 'non_blocking', 'reader', 'lazy', 'meta_keys', 'meta_key_postfix', 'orig_meta_keys', 'to_tensor'],
  ...['_requires_', '_desc_', 'sw_device', 'progress', 'cache_roi_weight_map', 'cpu_thresh', 'buffer_steps'],
  ...['buffer_dim', 'map_items', 'unpack_items', 'log_stats', 'overrides', 'transform'],
])
const LEFT_OUT = /^(Save|DataStats|ToDevice|DeleteItems)/
const READ_OF_LOADERS = /^(inferer|postprocessing|val_data_loader|transform|dataset|_target_|mode|zz_new|.*x)$/

function describesInBundle(json: Json, path: Path): boolean {
  const [first = '', second = ''] = path.map(String)
  if (/^(evaluator|dataset|dataloader)$/.test(first)) return path.length > 1 && !READ_OF_LOADERS.test(second)
  if (IDLE_PARTS.includes(first) && !/^(preprocessing|inferer|postprocessing|transforms)$/.test(first)) return true
  let value: unknown = json
  for (const step of path) {
    const target = (value as Json | undefined)?._target_
    // steps that are left out, and arguments of the closed list
    if (typeof target === 'string' && LEFT_OUT.test(target.split('.').at(-1)!)) return true
    if (typeof target === 'string' && (PLACES.has(String(step)) || isClosed(target, String(step)))) return true
    value = (value as Json | undefined)?.[step]
  }
  return false
}

// ---- mutations ----

interface Place {
  readonly path: Path
  readonly value: unknown
}

function places(json: unknown, path: Path = []): Place[] {
  if (typeof json !== 'object' || json === null) return []
  const keys: Path = Array.isArray(json) ? [...json.keys()] : Object.keys(json)
  return keys.flatMap((key) => {
    const value = (json as Json)[key as string]
    return [{ path: [...path, key], value }, ...places(value, [...path, key])]
  })
}

const at = (json: unknown, path: Path): Json =>
  path.reduce((inner: unknown, key) => (inner as Json)[key as string], json) as Json

type Mutation = 'add a key' | 'misspell a key' | 'another type' | 'another value' | 'remove a key'
const MUTATIONS: readonly Mutation[] = ['add a key', 'misspell a key', 'another type', 'another value', 'remove a key']

/** Makes the change in a copy; undefined where it cannot be made there. The path is that of what is changed or new. */
function mutated(json: Json, place: Place, mutation: Mutation): { json: Json; path: Path } | undefined {
  const copy = structuredClone(json)
  const { path, value } = place
  const parent = at(copy, path.slice(0, -1))
  const key = path.at(-1)!
  switch (mutation) {
    case 'add a key': {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
      at(copy, path).zz_new = 1
      return { json: copy, path: [...path, 'zz_new'] }
    }
    case 'misspell a key': {
      if (Array.isArray(parent)) return undefined
      const renamed = Object.entries(parent).map(([name, one]) => [name === key ? `${name}x` : name, one])
      for (const name of Object.keys(parent)) delete parent[name]
      Object.assign(parent, Object.fromEntries(renamed))
      return { json: copy, path: [...path.slice(0, -1), `${key}x`] }
    }
    case 'another type':
      // what is true in Python stays so in another type, so a boolean becomes what means its opposite
      parent[key as string] =
        typeof value === 'object' ? 7 : typeof value === 'boolean' ? (value ? [] : [1]) : { zz: 1 }
      return { json: copy, path }
    case 'another value': {
      const other = otherValue(value)
      if (other === undefined) return undefined
      parent[key as string] = other
      return { json: copy, path }
    }
    case 'remove a key':
      if (Array.isArray(parent)) parent.splice(key as number, 1)
      else delete parent[key as string]
      return { json: copy, path }
  }
}

/** Of the same kind, and no other spelling of the same. */
function otherValue(value: unknown): unknown {
  if (typeof value === 'boolean') return !value
  if (typeof value === 'number') return value + 1
  if (typeof value === 'string') return value.startsWith('$') || value.startsWith('@') ? undefined : `${value}q`
  return undefined
}

/** Whether a config without a key is the same pipeline: then the key said a default, and other values of it are tried above. */
async function isDefault(sample: Sample, json: Json, before: Derived): Promise<boolean> {
  const after = await outcome({ ...sample, json }, tensorsOf(sample.json))
  return !(after instanceof AppError) && after.digest === before.digest
}

async function outcome(sample: Sample, tensors: readonly string[]): Promise<Derived | AppError> {
  try {
    return await derive(sample, tensors)
  } catch (error) {
    if (error instanceof AppError && (error.code === 'BAD_MODEL_CONFIG' || error.code === 'BAD_MODEL')) return error
    throw error
  }
}

/** The mutations of a sample that are accepted and do nothing, in words; none is right. */
async function silentOnes(sample: Sample, chosen: readonly Place[]): Promise<string[]> {
  const before = await derive(sample)
  const silent: string[] = []
  for (const place of chosen) {
    for (const mutation of MUTATIONS) {
      const made = mutated(sample.json, place, mutation)
      if (made === undefined || onlyDescribes(sample, made.path)) continue
      // what is removed may have said what is so anyway
      if (mutation === 'remove a key' && (await isDefault(sample, made.json, before))) continue
      const after = await outcome({ ...sample, json: made.json }, tensorsOf(sample.json))
      if (after instanceof AppError || after.digest !== before.digest || after.notes !== before.notes) continue
      if (sample.metadata !== undefined && after.notes.includes(String(made.path[0]))) continue
      silent.push(`${sample.name}: ${mutation}: ${made.path.join('.')} (${JSON.stringify(place.value)?.slice(0, 60)})`)
    }
  }
  return silent
}

describe.each([...samples, ...bundles])('$name', (sample) => {
  it('is accepted as it is', async () => {
    await expect(derive(sample)).resolves.toBeDefined()
  })

  it('takes no change in silence', { timeout: 120_000 }, async () => {
    const all = places(sample.json)
    const long = process.env.AIDANT_LONG !== undefined
    await fc.assert(
      fc.asyncProperty(fc.nat(all.length - 1), async (nth) => {
        expect(await silentOnes(sample, [all[nth]!])).toEqual([])
      }),
      { numRuns: long ? all.length * 3 : 6 },
    )
  })
})

test('the closed list stands in docs/models.md', () => {
  const docs = readFileSync(here('../../docs/models.md'), 'utf8')
  const names = Object.keys(DESCRIBING).map((name) => name.replace(/^(compute|label)_dtype$/, 'dtype'))
  expect(names.filter((name) => !docs.includes(`\`${name}\``))).toEqual([])
})
