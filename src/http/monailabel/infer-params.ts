/** The params of a MONAI Label client as Aidant's own: clicks by label become clicks of one structure, and what only the client needs goes. */
import type { ModelConfig } from '../../contract/model.js'
import { AppError } from '../../errors.js'
import { namedLabels } from '../../pipelines/label-names.js'

/**
 * Said for the client's own sake, or for models that there are none of here: who asks, the segment that is drawn, the slice
 * on screen (the clicks have it), settings of SAM-2 and of OHIF's table. Their names mean other things to transforms.
 */
const FOR_CLIENTS: ReadonlySet<string> = new Set([
  ...['client_id', 'label', 'model', 'slice', 'reset_state', 'roi', 'restore_label_idx', 'label_info'],
])

/** Keys of `params` that are no name of a label, where a model has none of its own. */
const OWN_KEYS: ReadonlySet<string> = new Set([
  ...['foreground', 'background', 'points', 'current_point', 'spatial_size', 'image_index', 'point_labels', 'box'],
])

export interface InferParams {
  readonly params: Readonly<Record<string, unknown>>
  /** What the clicks draw, where the request says so. */
  readonly structure: string | undefined
  readonly notes: readonly string[]
}

/**
 * Reads `params` for a model. Deepedit's clients send a list of clicks for each label, and one for the background: a click
 * model draws one structure at a time, so one of them becomes `foreground`. Throws BAD_PARAMS where several have clicks
 * and none is said to be drawn.
 */
export function readInferParams(sent: Readonly<Record<string, unknown>>, config: ModelConfig): InferParams {
  const drawn = typeof sent.label === 'string' && sent.label !== '' ? sent.label : undefined
  // a box lies in one slice, and nothing else may say in which
  const isOurs = (key: string) => !FOR_CLIENTS.has(key) || (key === 'slice' && sent.box !== undefined)
  const params = Object.fromEntries(Object.entries(sent).filter(([key]) => isOurs(key)))
  const takesClicks = config.type === 'deepgrow' || config.type === 'pipeline'
  if (!takesClicks || 'foreground' in sent) return { params, structure: drawn, notes: [] }

  const keys = Object.keys(sent).filter((key) => isLabelKey(key, sent[key], config))
  for (const key of keys) delete params[key]
  const clicked = keys.filter((key) => (sent[key] as unknown[]).length > 0)
  const structure = clicked.length === 1 ? clicked[0] : clicked.find((key) => key === drawn)
  if (clicked.length > 1 && structure === undefined)
    throw new AppError(
      'BAD_PARAMS',
      `params: ${quoted(clicked)} have clicks; this model draws one structure at a time`,
      {
        hint: 'send the clicks of one label, or name the one that is drawn in params.label',
      },
    )
  if (structure === undefined) return { params, structure: drawn, notes: [] }
  const others = clicked.filter((key) => key !== structure)
  return {
    params: { ...params, foreground: sent[structure] },
    structure,
    notes:
      others.length === 0
        ? []
        : [
            `the clicks of ${quoted(others)} were not used: the model draws one structure at a time, '${structure}' here`,
          ],
  }
}

/** A label of the model with a list of clicks; a model without labels draws what a client calls as it likes. */
function isLabelKey(key: string, value: unknown, { labels }: ModelConfig): boolean {
  if (!Array.isArray(value) || OWN_KEYS.has(key) || FOR_CLIENTS.has(key)) return false
  const names = namedLabels(labels)
  return names.length === 0 ? value.every(Array.isArray) : names.some(({ name }) => name === key)
}

function quoted(names: readonly string[]): string {
  return names.map((name) => `'${name.slice(0, 80)}'`).join(' and ')
}
