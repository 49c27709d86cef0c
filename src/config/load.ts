/** From command line words and environment to a Config: flags beat `AIDANT_*` variables, which beat the defaults. */
import { nearestWord } from '../util/nearest-word.js'
import { Config, SETTINGS, type Setting } from './schema.js'

/** Everything that is wrong with the settings, one line each. */
export class ConfigError extends Error {
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/**
 * Reads settings from `words` (what follows `aidant serve`) and `env`. Both `--admin_hosts` and `--admin-hosts` are flags,
 * as `--flag value` and `--flag=value`; a boolean may stand alone. Throws ConfigError with every problem at once.
 */
export function loadConfig(words: readonly string[], env: Readonly<Record<string, string | undefined>>): Config {
  const { values, problems } = readFlags(words)
  for (const { name, near } of unknownVariables(env))
    if (near !== undefined) problems.push(`${name}: no such setting (did you mean ${near}?)`)
  const sources = new Map<string, string>()
  const input: Record<string, unknown> = {}
  for (const setting of SETTINGS) {
    const fromEnv = env[setting.env]
    if (values.has(setting.name)) {
      input[setting.name] = values.get(setting.name)
      sources.set(setting.name, setting.flag)
    } else if (fromEnv !== undefined && fromEnv !== '' && !isServiceLink(setting.env, fromEnv)) {
      input[setting.name] = fromEnv
      sources.set(setting.name, setting.env)
    }
  }
  const parsed = Config.safeParse(input)
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const name = String(issue.path[0])
      const given = JSON.stringify(input[name])
      problems.push(`${sources.get(name) ?? name}: ${issue.message}, not ${given}`)
    }
  }
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems)
  const config = parsed.data
  return config.debug && config.logLevel === 'info' ? { ...config, logLevel: 'debug' } : config
}

/** Kubernetes gives every pod AIDANT_PORT=tcp://… when a service is called aidant; that is not a setting. */
function isServiceLink(name: string, value: string): boolean {
  return /_PORT$/.test(name) && /^(tcp|udp|sctp):\/\//.test(value)
}

/** What it gives beside that, for a service called aidant and for each called aidant-something. */
const SERVICE_VARIABLE = /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/
/** Read by the commands that ask a server. */
const OTHER_VARIABLES: readonly string[] = ['AIDANT_SERVER', 'AIDANT_TOKEN']

export interface UnknownVariable {
  readonly name: string
  /** The variable that was probably meant, where one is near. */
  readonly near: string | undefined
}

/** What `env` holds under our prefix, its underscore forgotten or not, that is no setting: a slip of the hand where a name is near, else somebody else's. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): UnknownVariable[] {
  const known = new Set([...SETTINGS.map((setting) => setting.env), ...OTHER_VARIABLES])
  const bare = new Map([...known].map((name) => [squeezed(name), name]))
  return Object.entries(env)
    .filter(([name, value]) => isOurs(name) && !known.has(name) && value !== undefined)
    .map(([name, value]) => {
      if (SERVICE_VARIABLE.test(name) || isServiceLink(name, value!)) return { name, near: undefined }
      const near = nearestWord(squeezed(name), [...bare.keys()])
      return { name, near: near === undefined ? undefined : bare.get(near) }
    })
}

/** By the prefix; without its underscore only where the rest is a setting's name: AIDANTS may be anything. */
function isOurs(name: string): boolean {
  return (
    /^AIDANT_/i.test(name) || (/^AIDANT/i.test(name) && SETTINGS.some(({ env }) => squeezed(env) === squeezed(name)))
  )
}

/** The name without our prefix and what parts its words: an underscore is forgotten first, or is written as in the flag. */
function squeezed(name: string): string {
  return name.slice('AIDANT'.length).replaceAll(/[_.-]/g, '').toUpperCase()
}

function readFlags(words: readonly string[]): { values: Map<string, unknown>; problems: string[] } {
  const byFlag = new Map<string, Setting>(
    SETTINGS.flatMap((setting) => [setting.flag, ...(setting.aliases ?? [])].map((flag) => [flag, setting] as const)),
  )
  const values = new Map<string, unknown>()
  const problems: string[] = []
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!
    if (!word.startsWith('--')) {
      problems.push(`${word}: expected a flag; they start with --`)
      continue
    }
    const equals = word.indexOf('=')
    const spelled = equals < 0 ? word : word.slice(0, equals)
    const flag = spelled.toLowerCase().replaceAll('_', '-')
    const setting = byFlag.get(flag) ?? byFlag.get(flag.replace(/^--no-/, '--'))
    if (!setting || (!byFlag.has(flag) && !setting.boolean)) {
      problems.push(`${spelled}: no such flag${suggest(flag, [...byFlag.keys()])}`)
      if (equals < 0 && words[i + 1] !== undefined && !words[i + 1]!.startsWith('--')) i++
      continue
    }
    const next = words[i + 1]
    let value: string
    if (!byFlag.has(flag) && equals >= 0) {
      problems.push(`${spelled}: takes no value; write ${setting.flag}=${word.slice(equals + 1)}, or ${spelled} alone`)
      continue
    } else if (!byFlag.has(flag)) value = 'false'
    else if (equals >= 0) value = word.slice(equals + 1)
    else if (setting.boolean && (next === undefined || next.startsWith('--'))) value = 'true'
    else if (next === undefined || next.startsWith('--')) {
      problems.push(`${spelled}: needs a value, as in ${setting.flag} ${setting.value}`)
      continue
    } else value = words[++i]!
    if (setting.list) values.set(setting.name, [...((values.get(setting.name) as string[] | undefined) ?? []), value])
    else values.set(setting.name, value)
  }
  return { values, problems }
}

/** ' (did you mean …?)' for the nearest of `choices`, or nothing when none is near. */
function suggest(word: string, choices: readonly string[]): string {
  const near = nearestWord(word, choices)
  return near === undefined ? '' : ` (did you mean ${near}?)`
}
