/**
 * Which fields a bundle's answer depends on. A config for evaluation also loads, transforms and saves what a request has
 * not, such as `label`: no file of that name is asked for, and its steps are left out.
 */
import { AppError } from '../errors.js'
import type { Spec } from './bundle-transforms.js'

/** Arguments that name a field which is read beside `keys`. */
const READS = ['source_key', 'key_dst', 'source', 'ref_image', 'mask_key']

export interface NeededSteps {
  readonly steps: readonly Spec[]
  /** Fields whose steps were left out, since the answer does not depend on them. */
  readonly idle: readonly string[]
}

/**
 * The steps that `wanted` depends on, walked from the last one; a file is loaded only for a field that is read. A step on a
 * field of `known`, or one that an earlier step makes, may be left out; throws BAD_MODEL_CONFIG for one on any other.
 */
export function neededSteps(specs: readonly Spec[], wanted: readonly string[], known: readonly string[]): NeededSteps {
  checkFields(specs, known)
  const needed = new Set(wanted)
  const idle = new Set<string>()
  const kept: Spec[] = []
  for (const spec of specs.toReversed()) {
    const { name, args } = spec
    const keys = fieldsIn(args.keys)
    if (keys.length === 0) {
      for (const key of READS) for (const field of fieldsIn(args[key])) needed.add(field)
      kept.unshift(spec)
      continue
    }
    const made = /^(ConcatItems|MeanEnsemble|VoteEnsemble)/.test(name)
      ? fieldsIn(args.name ?? args.output_key)
      : fieldsIn(args.names)
    if (made.length > 0) {
      if (!made.some((field) => needed.has(field)) && !keys.some((field) => needed.has(field))) {
        for (const field of made) idle.add(field)
        continue
      }
      for (const field of keys) needed.add(field)
      kept.unshift(spec)
      continue
    }
    const used = keys.filter((field) => needed.has(field))
    for (const field of keys) if (!needed.has(field)) idle.add(field)
    if (used.length === 0) continue
    for (const key of READS) for (const field of fieldsIn(args[key])) needed.add(field)
    kept.unshift(used.length === keys.length ? spec : onlyFor(spec, keys, used))
  }
  return { steps: kept, idle: [...idle].filter((field) => !needed.has(field)) }
}

/** What a step makes beside its keys. */
const MAKES = ['name', 'names', 'output_key']
/** What MONAI's guidance transforms keep beside the images. */
const LOADS = /^(Load|AddGuidance|AddInitialSeed|FindDiscrepancy)/

/** A key that no step before it makes and no file brings: MONAI would stop there, and to leave it out would be silent. */
function checkFields(specs: readonly Spec[], known: readonly string[]): void {
  const fields = new Set(known)
  for (const { name, args, from } of specs) {
    const keys = fieldsIn(args.keys)
    if (!LOADS.test(name) && args.allow_missing_keys !== true) {
      const odd = keys.find((field) => !fields.has(field))
      if (odd !== undefined)
        throw new AppError(
          'BAD_MODEL_CONFIG',
          `${from}.keys: ${name} works on '${odd}', which no step before it makes; fields so far: ${[...fields].join(', ') || 'none'}`,
        )
    }
    for (const field of [...keys, ...MAKES.flatMap((key) => fieldsIn(args[key]))]) fields.add(field)
  }
}

function fieldsIn(value: unknown): string[] {
  return [value].flat().filter((field) => typeof field === 'string')
}

/** A loader loses the other fields and what it says of them; every other step passes over fields that are not there. */
function onlyFor({ name, args, ...rest }: Spec, keys: readonly string[], used: readonly string[]): Spec {
  if (!name.startsWith('Load')) return { name, args: { ...args, allow_missing_keys: true }, ...rest }
  const kept = Object.entries(args).map(([key, value]) => {
    const perField = Array.isArray(value) && value.length === keys.length
    return [key, perField ? value.filter((_, i) => used.includes(keys[i]!)) : value]
  })
  return { name, args: Object.fromEntries(kept), ...rest }
}
