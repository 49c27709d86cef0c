/**
 * Which fields a bundle's answer depends on. A config for evaluation also loads, transforms and saves what a request has
 * not, such as `label`: no file of that name is asked for, and its steps are left out.
 */
import type { Spec } from './bundle-transforms.js'

/** Arguments that name a field which is read beside `keys`. */
const READS = ['source_key', 'key_dst', 'source', 'ref_image', 'mask_key']

/** The steps that `wanted` depends on, walked from the last one; a file is loaded only for a field that is read. */
export function neededSteps(specs: readonly Spec[], wanted: readonly string[]): Spec[] {
  const needed = new Set(wanted)
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
      if (!made.some((field) => needed.has(field)) && !keys.some((field) => needed.has(field))) continue
      for (const field of keys) needed.add(field)
      kept.unshift(spec)
      continue
    }
    const used = keys.filter((field) => needed.has(field))
    if (used.length === 0) continue
    for (const key of READS) for (const field of fieldsIn(args[key])) needed.add(field)
    kept.unshift(used.length === keys.length ? spec : onlyFor(spec, keys, used))
  }
  return kept
}

function fieldsIn(value: unknown): string[] {
  return [value].flat().filter((field) => typeof field === 'string')
}

/** A loader loses the other fields and what it says of them; every other step passes over fields that are not there. */
function onlyFor({ name, args }: Spec, keys: readonly string[], used: readonly string[]): Spec {
  if (!name.startsWith('Load')) return { name, args: { ...args, allow_missing_keys: true } }
  const kept = Object.entries(args).map(([key, value]) => {
    const perField = Array.isArray(value) && value.length === keys.length
    return [key, perField ? value.filter((_, i) => used.includes(keys[i]!)) : value]
  })
  return { name, args: Object.fromEntries(kept) }
}
