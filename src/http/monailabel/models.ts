/** Models as MONAI Label's clients list them: their own words for the types, labels by value, what a click belongs to. */
import { z } from 'zod'
import type { ModelConfig, ModelType } from '../../contract/model.js'
import { namedLabels } from '../../pipelines/label-names.js'
import type { ModelEntry } from '../../registry/registry.js'

/**
 * What the clients show a model under. They have no place for extreme points or for classes of pictures, and a model of a
 * type they do not know is one that they list nowhere.
 */
const TYPES: Readonly<Partial<Record<ModelType, 'segmentation' | 'deepgrow'>>> = {
  segmentation: 'segmentation',
  others: 'segmentation',
  deepgrow: 'deepgrow',
  pipeline: 'deepgrow',
}

const Option = z.union([z.boolean(), z.number(), z.string(), z.array(z.union([z.number(), z.string()])).min(1)])

export const MonaiModel = z
  .object({
    type: z.enum(['segmentation', 'deepgrow']).meta({
      description: 'segmentation needs no clicks; deepgrow takes `foreground` and `background`',
    }),
    labels: z.record(z.string(), z.int()).meta({ description: 'the values in a label map, by name' }),
    dimension: z.union([z.literal(2), z.literal(3)]).meta({ description: '2: clicks and reply are of one slice' }),
    description: z.string(),
    config: z
      .record(z.string(), Option)
      .meta({ description: 'options; what is chosen comes back as keys of `params`' }),
  })
  .meta({ id: 'MonaiModel' })
export type MonaiModel = z.infer<typeof MonaiModel>

/** By name, those that can be used; models of the types above. */
export function monaiModels(entries: readonly ModelEntry[]): Record<string, MonaiModel> {
  const models: Record<string, MonaiModel> = {}
  for (const { name, state, config } of entries) {
    if (config === undefined || state === 'FAILED') continue
    const type = TYPES[config.type]
    if (type === undefined) continue
    models[name] = {
      type,
      labels: Object.fromEntries(namedLabels(config.labels).map(({ name: label, value }) => [label, value])),
      dimension: dimensionOf(config),
      description: config.description,
      config: optionsOf(config),
    }
  }
  return models
}

/** 2 for a model whose clicks count in their own slice alone. A model without clicks labels whole volumes, slice by slice or not. */
function dimensionOf({ type, info, preTransforms }: ModelConfig): 2 | 3 {
  if (type !== 'deepgrow') return 3
  const said = String(info.deepgrow ?? preTransforms.find(({ args }) => args.dimensions === 2)?.args.dimensions ?? '')
  return said.startsWith('2') ? 2 : 3
}

/** What a config offers under `options` of its additional_info, as far as the clients can show it. */
function optionsOf({ info }: ModelConfig): Record<string, z.infer<typeof Option>> {
  const { options } = info
  if (typeof options !== 'object' || options === null || Array.isArray(options)) return {}
  return Object.fromEntries(
    Object.entries(options).flatMap(([key, value]) => {
      const option = Option.safeParse(value)
      return option.success ? [[key, option.data]] : []
    }),
  )
}
