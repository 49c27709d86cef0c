/**
 * A config of a MONAI bundle, resolved as MONAI's ConfigParser does, but as data: relative ids (`@##name`) and macros
 * (`%name`) first, then references (`@name::part`) and expressions (`$...`) when somebody asks for a value.
 */
import { AppError } from '../errors.js'
import { type Aliases, evaluateText, NotData } from './bundle-expression.js'

export type Json = Readonly<Record<string, unknown>>

/** Something with a `_target_`: what it is made with is resolved by whoever knows which arguments count. */
export class Component {
  constructor(
    readonly raw: Json,
    /** Where it stands: `preprocessing::transforms::0`. */
    readonly id: string,
  ) {}

  /** The last word of `_target_`, and what stands before it. */
  get target(): { readonly name: string; readonly module: string } {
    const text = String(this.raw._target_)
    const at = text.lastIndexOf('.')
    return { name: text.slice(at + 1), module: at < 0 ? '' : text.slice(0, at) }
  }
}

/** One config resolves to no more values than this, however often its references meet each other. */
const MOST_VALUES = 100_000
const MOST_DEPTH = 64
const HINT = 'send the part config with a config_aiaa.json beside the bundle, which says it as data'

export class BundleContent {
  readonly #root: Json
  readonly #aliases: Aliases
  readonly #asked = new Set<string>()
  #values = 0

  /** `file` is what messages call it. Throws BAD_MODEL_CONFIG for ids and macros that lead nowhere. */
  constructor(
    root: Json,
    readonly file: string,
  ) {
    this.#aliases = importsOf(root)
    this.#root = this.#expanded(root, [], root, 0) as Json
  }

  /** The value that stands at `id`, resolved; undefined where nothing stands. */
  at(id: string): unknown {
    const { found, value } = this.#stands(id)
    return found ? this.resolve(value, id) : undefined
  }

  /** One argument of a component, resolved; undefined where it has none of that name. */
  argument({ raw, id }: Component, name: string): unknown {
    return Object.hasOwn(raw, name) ? this.resolve(raw[name], `${id}::${name}`) : undefined
  }

  /** Whether the component says `_disabled_`, as a boolean, the word true, a reference or an expression. */
  isDisabled(component: Component): boolean {
    const value = this.argument(component, '_disabled_')
    return typeof value === 'string' ? value.trim().toLowerCase() === 'true' : Boolean(value)
  }

  /** A value with references followed and expressions evaluated; what has a `_target_` becomes a Component. */
  resolve(value: unknown, id: string, path: readonly string[] = []): unknown {
    if (++this.#values > MOST_VALUES) this.refuse(id, `resolves to more than ${MOST_VALUES} values`)
    this.#asked.add(id)
    if (path.length > MOST_DEPTH) this.refuse(id, 'refers to itself')
    if (Array.isArray(value))
      return value
        .map((item, i) => this.resolve(item, `${id}::${i}`, path))
        .filter((item) => !(item instanceof Component && this.isDisabled(item)))
    if (isRecord(value)) {
      if ('_target_' in value) return new Component(value, id)
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, this.resolve(item, `${id}::${key}`, path)]),
      )
    }
    if (typeof value !== 'string') return value
    if (REFERENCE.test(value)) return this.#follow(value.slice(1), id, path)
    if (!value.startsWith('$')) return value
    try {
      return evaluateText(value.slice(1), (reference) => this.#follow(reference, id, path), this.#aliases)
    } catch (error) {
      if (!(error instanceof NotData)) throw error
      this.refuse(id, `is a Python expression that ${error.message}`, error)
    }
  }

  /** Throws BAD_MODEL_CONFIG that names the file and the place in it. */
  refuse(id: string, why: string, cause?: unknown): never {
    throw new AppError('BAD_MODEL_CONFIG', `${this.place(id)} ${why}`, { hint: HINT, cause })
  }

  /** Where `id` stands, as messages say it: `inference.json: preprocessing.transforms[3]`. */
  place(id: string): string {
    return `${this.file}: ${pathOf(id)}`
  }

  /** What nobody has asked for: keys of the config, and those of plain objects in it that were asked for in part. */
  unread(): string[] {
    const walk = (value: Json, at: readonly string[]): string[] =>
      Object.entries(value).flatMap(([key, item]) => {
        const id = [...at, key].join('::')
        if (this.#asked.has(id)) return []
        const inside = [...this.#asked].some((asked) => asked.startsWith(`${id}::`))
        if (!inside) return [pathOf(id)]
        return isRecord(item) && !('_target_' in item) ? walk(item, [...at, key]) : []
      })
    return walk(this.#root, [])
  }

  #follow(reference: string, from: string, path: readonly string[]): unknown {
    const id = reference.replaceAll('#', '::')
    if (path.includes(id)) this.refuse(from, `refers to itself through '@${id}'`)
    const { found, value } = this.#stands(id)
    if (!found) this.refuse(from, `refers to '@${id}', which the config does not have`)
    return this.resolve(value, id, [...path, id])
  }

  #stands(id: string, root: unknown = this.#root): { found: boolean; value: unknown } {
    let value = root
    for (const step of id === '' ? [] : id.split('::')) {
      if ((!isRecord(value) && !Array.isArray(value)) || !Object.hasOwn(value, step))
        return { found: false, value: undefined }
      value = (value as Json)[step]
    }
    return { found: true, value }
  }

  /** The config without relative ids and macros; both are told from where they stand. */
  #expanded(value: unknown, at: readonly string[], root: Json, depth: number): unknown {
    if (++this.#values > MOST_VALUES || depth > MOST_DEPTH)
      this.refuse(at.join('::'), 'is nested too deeply, or a macro holds itself')
    if (Array.isArray(value)) return value.map((item, i) => this.#expanded(item, [...at, `${i}`], root, depth + 1))
    if (isRecord(value))
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, this.#expanded(item, [...at, key], root, depth + 1)]),
      )
    if (typeof value !== 'string') return value
    const text = this.#withoutRelative(value, at)
    if (!text.startsWith('%')) return text
    const id = text.slice(1).replaceAll('#', '::')
    if (/\.(json|ya?ml)(::|$)/i.test(id))
      this.refuse(at.join('::'), `takes in another file with the macro '${text.slice(0, 80)}'; one file is read`)
    const { found, value: copied } = this.#stands(id, root)
    this.#asked.add(id)
    if (!found) this.refuse(at.join('::'), `copies '${text.slice(0, 80)}', which the config does not have`)
    return this.#expanded(copied, id.split('::'), root, depth + 1)
  }

  /** `@##name` counts steps up from where it stands: one `#` is the same level, each further one the level above. */
  #withoutRelative(text: string, at: readonly string[]): string {
    if (!/[@%](#|::)/.test(text) || !/^[@%$]/.test(text)) return text
    return text.replaceAll(/([@%])((?:#|::)+)/g, (_, sign: string, steps: string) => {
      const up = steps.replaceAll('::', '#').length
      if (up > at.length) this.refuse(at.join('::'), `goes up further than the config is deep: '${text.slice(0, 80)}'`)
      return (
        sign +
        at
          .slice(0, at.length - up)
          .map((step) => `${step}::`)
          .join('')
      )
    })
  }
}

const REFERENCE = /^@\w*(?:(?:::|#)\w*)*$/

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `preprocessing::transforms::0::keys` as preprocessing.transforms[0].keys */
function pathOf(id: string): string {
  return id
    .split('::')
    .map((step, i) => (/^\d+$/.test(step) ? `[${step}]` : `${i === 0 ? '' : '.'}${step.slice(0, 80)}`))
    .join('')
}

/** What the config's import statements call things: `np` -> `numpy`, `CommonKeys` -> `monai.utils.CommonKeys`. */
function importsOf(root: Json): Map<string, string> {
  const aliases = new Map<string, string>()
  const lines = [root.imports, root.import, root.initialize].flat().filter((line) => typeof line === 'string')
  for (const line of lines) {
    const plain = /^\$import ([\w.]+) as (\w+)\s*$/.exec(line)
    if (plain) aliases.set(plain[2]!, plain[1]!)
    const from = /^\$from ([\w.]+) import ([\w\s,]+)$/.exec(line)
    for (const part of from?.[2]?.split(',') ?? []) {
      const [name = '', alias = name] = part.trim().split(/\s+as\s+/)
      aliases.set(alias, `${from![1]}.${name}`)
    }
  }
  return aliases
}
