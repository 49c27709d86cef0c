/** `aidant list | show | ps | load | unload | rm`: the models of a running server. */
import { type Command, Option } from 'commander'
import { addServerOptions, connect, type ServerOptions } from '../server-options.js'
import { table } from '../table.js'
import { told } from '../told.js'

interface Model {
  readonly name: string
  readonly type?: string
  readonly labels?: readonly string[]
  readonly state: string
  readonly reason?: string
  readonly device?: string
  readonly origin: string
  readonly bytes?: number
  readonly generation: number
  readonly config?: unknown
  readonly optimised?: Optimised
  readonly parts?: readonly Part[]
}
interface Part {
  readonly network: string
  readonly role: string
  readonly sha256: string
  readonly bytes: number
  readonly labels?: Readonly<Record<string, number>>
}
interface Optimised {
  readonly engine: string
  readonly plan: string | null
  readonly rewrites: Readonly<Record<string, number>>
  readonly original_ms: number
  readonly chosen_ms: number
  readonly too_long?: boolean
}
interface Running {
  readonly model: string
  readonly state: string
  readonly device?: string
  readonly fallback_reason?: string
  readonly rss_bytes?: number
  readonly queued: number
  readonly until?: string
}
interface Common extends ServerOptions {
  readonly server: string
  readonly json?: boolean
}
interface LoadOptions extends Common {
  readonly config?: string
  readonly data?: readonly string[]
  readonly path?: string
  readonly modelVersion?: string
  readonly generation?: string
}

const DEFAULT_SERVER = 'http://127.0.0.1:5000'

/** Adds the commands to the program. `print` takes whole lines. */
export function addModelCommands(program: Command, print: (line: string) => void = console.log): void {
  const command = (name: string, about: string) =>
    addServerOptions(
      program.command(name).description(about),
      new Option('--server <url>', 'the server to ask').env('AIDANT_SERVER').default(DEFAULT_SERVER),
    ).option('--json', "the server's own answer, as JSON")
  const show = (options: Common, answer: unknown, lines: () => readonly string[]) => {
    if (options.json) print(JSON.stringify(answer, undefined, 2))
    else for (const line of lines()) print(line)
  }
  const at = (name: string) => `/admin/model/${encodeURIComponent(name)}`

  command('list', 'every model of the server').action(
    told(async (options: Common) => {
      const models = await (await connect(options)).ask<Model[]>('GET', '/admin/model')
      show(options, models, () =>
        table(
          ['NAME', 'TYPE', 'STATE', 'DEVICE', 'SIZE', 'ORIGIN', 'LABELS'],
          models.map((model) => [
            model.name,
            model.type ?? '?',
            model.state,
            model.device ?? '',
            size(model.bytes),
            model.origin,
            model.reason ?? shortList(model.labels ?? []),
          ]),
        ),
      )
    }),
  )

  command('show <name>', 'the config of a model').action(
    told(async (name: string, options: Common) => {
      const client = await connect(options)
      const config = await client.ask<unknown>('GET', at(name))
      print(JSON.stringify(config, undefined, 2))
      // Not part of the config, which is to be edited and sent back: so beside it.
      const model = (await client.ask<Model[]>('GET', '/admin/model')).find((one) => one.name === name)
      for (const line of partLines(model?.parts ?? [])) process.stderr.write(`${line}\n`)
      if (model?.optimised) process.stderr.write(`${gain(model.optimised)}\n`)
    }),
  )

  command('ps', 'the models in memory').action(
    told(async (options: Common) => {
      const running = await (await connect(options)).ask<Running[]>('GET', '/admin/ps')
      show(options, running, () =>
        table(
          ['NAME', 'STATE', 'DEVICE', 'MEMORY', 'QUEUED', 'UNTIL', 'NOTE'],
          running.map((one) => [
            one.model,
            one.state,
            one.device ?? '',
            size(one.rss_bytes),
            String(one.queued),
            one.until ?? '',
            one.fallback_reason ?? '',
          ]),
        ),
      )
    }),
  )

  command('load <name>', 'publish a model from files or the catalogue, or without either bring it into memory now')
    .option('--config <file>', 'config_aiaa.json')
    .option(
      '--data <file>',
      'model.onnx, or a zip of an MMAR, a MONAI bundle or an ONNX model; more than once for several networks',
      (file: string, before: readonly string[] = []) => [...before, file],
    )
    .option('--path <path>', 'a model of the catalogue')
    .option('--model-version <version>', 'its version there')
    .option('--generation <number>', 'an earlier generation of this model that is still kept')
    .action(
      told(async (name: string, options: LoadOptions) => {
        const client = await connect(options)
        const { config, data, path, modelVersion: version, generation } = options
        const parts = [
          ...(config === undefined ? [] : [{ name: 'config', path: config }]),
          ...(data ?? []).map((path) => ({ name: 'data', path })),
        ]
        const model =
          parts.length > 0
            ? await client.upload<Model>(at(name), parts)
            : path !== undefined
              ? await client.ask<Model>('PUT', at(name), { path, version })
              : generation !== undefined
                ? await client.ask<Model>('PUT', at(name), { generation: Number(generation) })
                : await client.ask<Model>('POST', `${at(name)}/load`)
        show(options, model, () => [
          `${model.name}: ${model.state.toLowerCase()}${model.device ? ` on ${model.device}` : ''}, generation ${model.generation}`,
        ])
      }),
    )

  command('unload <name>', "give a model's memory back; its next request loads it again").action(
    told(async (name: string, options: Common) => {
      const model = await (await connect(options)).ask<Model>('POST', `${at(name)}/unload`)
      show(options, model, () => [`${model.name}: unloaded`])
    }),
  )

  command('rm <name>', 'remove a model from the server').action(
    told(async (name: string, options: Common) => {
      const model = await (await connect(options)).ask<Model>('DELETE', at(name))
      show(options, model, () => [`${model.name}: removed`])
    }),
  )
}

function partLines(parts: readonly Part[]): string[] {
  return parts.map(({ network, role, sha256, bytes, labels }, i) => {
    const map = labels
      ? `, labels ${Object.entries(labels)
          .map(([own, final]) => `${own} as ${final}`)
          .join(', ')}`
      : ''
    return `network ${i + 1} of ${parts.length}: ${network} (${role}), ${size(bytes)}, ${sha256.slice(0, 12)}${map}`
  })
}

function gain({ engine, plan, rewrites, original_ms: before, chosen_ms: now, too_long: tooLong }: Optimised): string {
  if (tooLong)
    return `runs as it was exported: a run of ${before} ms is too long to be tried rewritten (--optimise-trial), ${engine}`
  if (plan === null) return `runs as it was exported: rewritten it was not faster (${before} ms a run, ${engine})`
  const what = Object.entries(rewrites).map(([name, count]) => `${count} x ${name}`)
  return `runs rewritten (${what.join(', ')}): ${now} ms a run instead of ${before} ms, ${engine}`
}

function size(bytes: number | undefined): string {
  if (bytes === undefined) return ''
  const MiB = 1024 * 1024
  return bytes < MiB ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / MiB).toFixed(1)} MiB`
}

function shortList(labels: readonly string[]): string {
  const shown = labels.slice(0, 4).join(', ')
  return labels.length > 4 ? `${shown}, … (${labels.length})` : shown
}
