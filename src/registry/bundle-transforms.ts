/** The transforms of a MONAI bundle as those of a config: which are ours, what they are called here, and what they skip. */
import { type Expression, ExpressionError, parseExpression } from '../util/python-expression.js'
import { type BundleContent, Component, type Json } from './bundle-content.js'

export interface Spec {
  readonly name: string
  readonly args: Json
  /** Where it stands: `inference.json: preprocessing.transforms[3]`. */
  readonly from?: string
}

/** What they write, watch or tidy up is not part of the answer; the server writes the result itself. */
const WRITERS = new Set(['SaveImaged', 'SaveImage', 'SaveClassificationd', 'SaveClassification'])
const IDLE = new Set([
  ...['DataStatsd', 'DataStats', 'ToDeviced', 'ToDevice', 'DeleteItemsd', 'SimulateDelayd', 'SimulateDelay'],
  ...['FromMetaTensord', 'ToMetaTensord', 'Identityd', 'Identity'],
])
/** Arguments that say where arrays lie, or by what means, and nothing about the result. */
const PLACES = new Set(['device', 'non_blocking', 'reader', 'lazy', 'meta_keys', 'meta_key_postfix', 'orig_meta_keys'])
/** What Invertd inverts is here always what was done to the image it names. */
const OF_INVERT = new Set(['transform', 'to_tensor'])
/** Arguments of Compose that change nothing for one item at a time. */
const OF_COMPOSE = new Set(['transforms', 'map_items', 'unpack_items', 'log_stats', 'lazy', 'overrides'])

export interface ReadTransforms {
  readonly specs: readonly Spec[]
  /** What was left out, for whoever loads the bundle. */
  readonly notes: readonly string[]
  /** The fields that the writers among them save. */
  readonly saved: readonly string[]
}

/**
 * The transforms that `value` (a Compose, or a list) stands for, nested ones in line. `field` is what transforms without
 * keys work on, and `channels` how many the network gives, as far as the metadata says.
 */
export function readTransforms(
  content: BundleContent,
  value: unknown,
  id: string,
  { field, channels }: { readonly field: string; readonly channels: number | undefined },
): ReadTransforms {
  const specs: Spec[] = []
  const notes: string[] = []
  const saved: string[] = []
  for (const component of flattened(content, value, id)) {
    const { name, module } = component.target
    if (WRITERS.has(name)) {
      notes.push(`${name} is left out: the server writes the result`)
      const keys = content.argument(component, 'keys')
      saved.push(...[keys].flat().filter((key) => typeof key === 'string'))
      continue
    }
    if (IDLE.has(name)) continue
    if (module !== '' && !/^monai(\.|$)/.test(module)) {
      const own = ownTransform(content, component, channels)
      if (own) specs.push({ ...own, from: content.place(component.id) })
      else content.refuse(component.id, `is ${module}.${name}, code of the bundle's own, which is not run here`)
      continue
    }
    specs.push({ ...specOf(content, component, field), from: content.place(component.id) })
  }
  return { specs, notes: [...new Set(notes)], saved }
}

function flattened(content: BundleContent, value: unknown, id: string): Component[] {
  if (Array.isArray(value)) return value.flatMap((item, i) => flattened(content, item, `${id}::${i}`))
  if (!(value instanceof Component)) content.refuse(id, 'has no _target_')
  if (content.isDisabled(value)) return []
  const mode = content.argument(value, '_mode_')
  if (mode !== undefined && mode !== 'default') content.refuse(`${value.id}::_mode_`, 'must be default')
  if (!/^Compose$/.test(value.target.name)) return [value]
  const odd = Object.keys(value.raw).find((key) => !key.startsWith('_') && !OF_COMPOSE.has(key))
  if (odd !== undefined) content.refuse(`${value.id}::${odd}`, 'is no argument of Compose')
  const listed = content.argument(value, 'transforms') ?? []
  return flattened(content, Array.isArray(listed) ? listed : [listed], `${value.id}::transforms`)
}

const SPECIAL = new Set(['_target_', '_disabled_', '_requires_', '_mode_', '_desc_'])

function argumentsOf(content: BundleContent, component: Component): Json {
  const { name } = component.target
  const args: Record<string, unknown> = {}
  for (const key of Object.keys(component.raw)) {
    if (SPECIAL.has(key) || PLACES.has(key) || (/^Invertd?$/.test(name) && OF_INVERT.has(key))) continue
    if (/^_.*_$/.test(key)) content.refuse(`${component.id}::${key}`, 'is no key that MONAI knows')
    // a function is read as a text, by the one transform that takes it
    const isFunction = /^CropForegroundd?$/.test(name) && key === 'select_fn'
    const value = isFunction ? component.raw[key] : content.argument(component, key)
    if (holdsComponent(value)) content.refuse(`${component.id}::${key}`, 'is made by Python, which is not run here')
    args[key] = value
  }
  return args
}

function holdsComponent(value: unknown): boolean {
  if (value instanceof Component) return true
  if (Array.isArray(value)) return value.some(holdsComponent)
  return typeof value === 'object' && value !== null && Object.values(value).some(holdsComponent)
}

function specOf(content: BundleContent, component: Component, field: string): Spec {
  const { name } = component.target
  if (/^Lambdad?$/.test(name)) return lambdaSpec(content, component, field)
  const args = argumentsOf(content, component)
  // MONAI's array transforms are given the image itself; its dictionary transforms, whose names end in d, name fields.
  const isArray = !('keys' in args) && /[a-z]$/.test(name) && !name.endsWith('d')
  return { name, args: isArray ? { keys: field, ...args } : args }
}

/** Known classes of the zoo's own scripts; undefined for any other. */
function ownTransform(content: BundleContent, component: Component, channels: number | undefined): Spec | undefined {
  const args = () => argumentsOf(content, component)
  switch (component.target.name) {
    case 'ConcatImages': {
      const { keys_merge: keys, keys_out: name, ...rest } = args()
      return { name: 'ConcatItemsd', args: { keys, name, ...rest } }
    }
    case 'MergeClassesd': {
      if (channels === undefined)
        content.refuse(component.id, 'merges classes whose number network_data_format of metadata.json does not say')
      const values = Array.from({ length: channels - 1 }, (_, i) => i + 1)
      return { name: 'MergeChannelsd', args: { ...args(), channels: values, values } }
    }
    case 'OrientationGuidanceMultipleLabelDeepEditd':
      return { name: 'OrientationGuidanceMultipleLabelDeepEditd', args: args() }
  }
  return undefined
}

function lambdaSpec(content: BundleContent, component: Component, field: string): Spec {
  const { func, ...others } = component.raw
  const id = `${component.id}::func`
  const args = argumentsOf(content, new Component(others, component.id))
  if (typeof func !== 'string' || !func.startsWith('$')) content.refuse(id, 'must be a lambda, "$lambda x: ..."')
  // a reference inside a function is its value
  const text = func
    .slice(1)
    .replaceAll(/@\w+(?:(?:::|#)\w+)*/g, (reference) => pythonLiteral(content.resolve(reference, id)))
  let tree: Expression
  try {
    tree = parseExpression(text)
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
    content.refuse(id, `is a Python expression that is not read here: ${error.message}`, error)
  }
  if (tree.kind !== 'lambda') content.refuse(id, 'must be a lambda, "$lambda x: ..."')
  const keys = 'keys' in args ? args : { keys: field, ...args }
  const merged = mergeOf(tree)
  return merged
    ? { name: 'MergeChannelsd', args: { ...keys, ...merged } }
    : { name: 'Lambdad', args: { ...keys, func: text.trim() } }
}

function pythonLiteral(value: unknown): string {
  return JSON.stringify(value).replace(/\b(true|false|null)\b/g, (word) =>
    word === 'null' ? 'None' : word === 'true' ? 'True' : 'False',
  )
}

/**
 * `torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, ..., 0))`: the channel asked first wins, as MergeChannelsd says
 * with lists. Undefined for any other function.
 */
export function mergeOf(tree: Expression): { channels: number[]; values: number[] } | undefined {
  if (tree.kind !== 'lambda' || tree.parameters.length !== 1) return undefined
  const channels: number[] = []
  const values: number[] = []
  let step: Expression = tree.body
  while (step.kind === 'call' && step.callee.kind === 'name' && /^(torch|np|numpy)\.where$/.test(step.callee.name)) {
    const [test, yes, no] = step.args
    const channel = test && channelAboveZero(test, tree.parameters[0]!)
    if (channel === undefined || yes?.kind !== 'literal' || typeof yes.value !== 'number' || !no) return undefined
    channels.push(channel)
    values.push(yes.value)
    step = no
  }
  return channels.length > 0 && step.kind === 'literal' && step.value === 0 ? { channels, values } : undefined
}

/** `x[2] > 0` or `x[[2]] > 0`. */
function channelAboveZero(test: Expression, parameter: string): number | undefined {
  if (test.kind !== 'binary' || test.operator !== '>' || test.right.kind !== 'literal' || test.right.value !== 0)
    return undefined
  const { left } = test
  if (left.kind !== 'subscript' || left.target.kind !== 'name' || left.target.name !== parameter) return undefined
  const index = left.index.kind === 'list' && left.index.items.length === 1 ? left.index.items[0]! : left.index
  return index.kind === 'literal' && typeof index.value === 'number' && index.value >= 0 ? index.value : undefined
}
