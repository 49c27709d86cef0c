/** `aidant segment | dextr3d | deepgrow | polygons`: scans in, label maps out, by a running server or without one. */
import { readFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { Readable } from 'node:stream'
import { type Command, Option } from 'commander'
import { EXIT, UsageError } from '../exit-codes.js'
import { findInputs, type ScanInput } from '../inputs.js'
import { type LocalServer, startLocalServer } from '../local-server.js'
import { type OutputPlan, planOutput, writeResult } from '../outputs.js'
import { ProgressLine } from '../progress-line.js'
import { readText, type ServerClient, type ServerError } from '../server-client.js'
import { addServerOptions, connect, type ServerOptions } from '../server-options.js'
import { told } from '../told.js'

interface Options extends ServerOptions {
  readonly model?: string
  readonly out: string
  readonly workspace?: string
  readonly device?: string
  readonly format?: string
  readonly params?: string
  readonly jobs: string
  readonly json?: boolean
  readonly points?: string[]
  readonly foreground?: string[]
  readonly background?: string[]
  readonly box?: string
  readonly slice?: string
  readonly label?: string
  readonly morePoints?: string
  readonly simplify?: string
}

/** What became of one scan, as `--json` prints it. */
export interface Outcome {
  readonly input: string
  readonly ok: boolean
  readonly seconds: number
  readonly output?: string
  /** The reply's own params: labels found, their volumes, notes. */
  readonly result?: unknown
  readonly error?: string
  readonly hint?: string
}

interface Task {
  readonly route: string
  readonly params: Readonly<Record<string, unknown>>
}

/** More at once than this only queue in the server. */
const MOST_JOBS = 16

export function addAnnotateCommands(program: Command): void {
  const command = (name: string, about: string, needsModel: boolean) => {
    const made = addServerOptions(
      program
        .command(name)
        .description(about)
        .argument('<scans...>', 'image files, or folders of them; the DICOM files of one folder are one scan')
        .requiredOption('-o, --out <path>', 'a file for one scan, else a folder'),
      new Option('--server <url>', 'a running server; without one the work is done here').env('AIDANT_SERVER'),
    )
      .option('--workspace <folder>', 'without --server: use the models of this workspace too')
      .option('--device <device>', 'without --server: auto, cpu, cuda or cuda:N')
      .option('--jobs <count>', 'scans under way at once', '2')
      .option('--params <json>', 'further params of the request as JSON, or @file')
      .option('--json', 'what became of each scan, as JSON on stdout')
    return needsModel
      ? made
          .requiredOption('-m, --model <name>', 'a model of aidant list')
          .option('--format <suffix>', '.nii.gz, .nii, .nrrd, .seg.nrrd, .mha, .png or .dcm (a DICOM SEG)')
      : made
  }
  const point = (words: string, seen: string[] = []) => [...seen, words]

  command('segment', 'label scans with an automatic model', true).action((scans: string[], options: Options) =>
    annotate(scans, options, () => ({ route: 'segmentation', params: {} })),
  )
  command('dextr3d', 'label one structure from its extreme points', true)
    .requiredOption('--points <x,y,z>', 'a voxel on its border, six times', point)
    .action((scans: string[], options: Options) =>
      annotate(scans, options, () => ({
        route: 'dextr3d',
        params: { points: readPoints('--points', options.points) },
      })),
    )
  command('deepgrow', 'label one structure from clicks', true)
    .option('--foreground <x,y,z>', 'a voxel inside it; again for each', point)
    .option('--background <x,y,z>', 'a voxel outside it; again for each', point)
    .option('--box <x0,y0,x1,y1>', 'a box around it in one slice, for models that take one')
    .option('--slice <z>', 'the slice of the box, from 0')
    .action((scans: string[], options: Options) =>
      annotate(scans, options, () => ({ route: 'deepgrow', params: deepgrowParams(options) })),
    )
  command('polygons', 'the contours of masks, slice by slice, as JSON', false)
    .option('--label <value>', 'one value of a label map; without it everything but 0')
    .option('--more-points <count>', 'leave out that many points between two kept ones')
    .option('--simplify <voxels>', 'keep the points that this tolerance needs')
    .action((scans: string[], options: Options) =>
      annotate(scans, options, () => ({
        route: 'mask2polygon',
        params: Object.fromEntries(
          Object.entries({ label: options.label, more_points: options.morePoints, simplify: options.simplify }).flatMap(
            ([key, value]) => (value === undefined ? [] : [[key, readNumber(key, value)]]),
          ),
        ),
      })),
    )
}

const annotate = told(async (scans: readonly string[], options: Options, readTask: () => Task): Promise<void> => {
  const interruption = new AbortController()
  const interrupt = () => interruption.abort()
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  let local: LocalServer | undefined
  try {
    const task = readTask()
    const params = { ...(await readParams(options.params)), ...task.params }
    const jobs = readNumber('--jobs', options.jobs)
    if (!Number.isInteger(jobs) || jobs < 1 || jobs > MOST_JOBS)
      throw new UsageError(`--jobs is a number from 1 to ${MOST_JOBS}, not ${options.jobs}`)
    const inputs = await findInputs(scans)
    const plan = await planOutput(options.out, inputs, task.route === 'mask2polygon' ? '.json' : options.format)
    // an empty variable of the environment names no server
    if (!options.server) local = await startLocalServer(options)
    const client = local?.client ?? (await connect({ ...options, server: options.server! }))
    // Whether there is a server, and the model in it, is one question, not one for every scan.
    await client.ask(
      'GET',
      options.model === undefined ? '/v1/models' : `/v1/models?${new URLSearchParams({ model: options.model })}`,
    )
    const outcomes = await workThrough(inputs, jobs, interruption.signal, (input) =>
      annotateOne(client, input, { ...task, params }, plan, options, interruption.signal),
    )
    if (options.json) process.stdout.write(`${JSON.stringify(outcomes, undefined, 2)}\n`)
    if (interruption.signal.aborted) process.exitCode = EXIT.interrupted
    else if (outcomes.some(({ ok }) => !ok)) process.exitCode = EXIT.failed
  } catch (error) {
    if (interruption.signal.aborted) process.exitCode = EXIT.interrupted
    else throw error
  } finally {
    process.removeListener('SIGINT', interrupt)
    process.removeListener('SIGTERM', interrupt)
    await local?.close()
  }
})

/** At most `jobs` at once, in order; what fails is told and the rest goes on. Ends early when `signal` aborts. */
async function workThrough(
  inputs: readonly ScanInput[],
  jobs: number,
  signal: AbortSignal,
  work: (input: ScanInput) => Promise<Omit<Outcome, 'input' | 'seconds' | 'ok'>>,
): Promise<Outcome[]> {
  const progress = new ProgressLine(inputs.length, process.stderr)
  const outcomes: Outcome[] = []
  const waiting = [...inputs.entries()]
  const worker = async () => {
    for (let next = waiting.shift(); next && !signal.aborted; next = waiting.shift()) {
      const [at, input] = next
      const started = Date.now()
      const seconds = () => (Date.now() - started) / 1000
      try {
        const done = await work(input)
        outcomes[at] = { input: input.path, ok: true, seconds: seconds(), ...done }
        progress.finished(input.path)
      } catch (error) {
        if (signal.aborted) return
        const { message, hint } = error as ServerError
        outcomes[at] = { input: input.path, ok: false, seconds: seconds(), error: message, ...(hint ? { hint } : {}) }
        progress.finished(input.path, hint ? `${message} (${hint})` : message)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(jobs, inputs.length) }, worker))
  progress.end()
  return outcomes.filter((outcome) => outcome !== undefined)
}

async function annotateOne(
  client: ServerClient,
  input: ScanInput,
  { route, params }: Task,
  plan: OutputPlan,
  { model }: Options,
  signal: AbortSignal,
): Promise<Omit<Outcome, 'input' | 'seconds' | 'ok'>> {
  const dicom = plan.extension === '.dcm'
  const wish =
    plan.extension === undefined || dicom || route === 'mask2polygon' ? {} : { result_extension: plan.extension }
  const query = new URLSearchParams({
    ...(model === undefined ? {} : { model }),
    ...(dicom ? { output: 'dicom_seg' } : {}),
  })
  const files = input.files.map((path) => ({ name: 'image', path }))
  const text = JSON.stringify({ ...params, ...wish })
  const reply = await client.post(`/v1/${route}?${query}`, { params: text }, files, signal)
  const target = plan.pathOf(input)
  const pathFor = (suffix: string) => (plan.whole ? target : target + suffix)

  const type = reply.headers['content-type'] ?? ''
  if (type.startsWith('multipart/')) {
    const form = await new Response(Readable.toWeb(reply) as ReadableStream, {
      headers: { 'content-type': type },
    }).formData()
    const result: unknown = JSON.parse(String(form.get('params')))
    const file = form.get('file')
    if (!(file instanceof File)) return keepJson(result)
    const output = pathFor(file.name.replace(/^[^.]*/, ''))
    await writeResult(output, new Uint8Array(await file.arrayBuffer()))
    return { output, result }
  }
  if (type.startsWith('application/json')) {
    if (route === 'mask2polygon') {
      const output = pathFor('.json')
      await writeResult(output, reply)
      return { output }
    }
    return keepJson(JSON.parse(await readText(reply)))
  }
  const output = pathFor(suffixIn(reply) ?? plan.extension ?? '')
  await writeResult(output, reply)
  return { output }

  /** A model that makes no image, such as a classifier: its numbers are the result. */
  async function keepJson(result: unknown): Promise<Pick<Outcome, 'output' | 'result'>> {
    const output = plan.whole && plan.extension === '.json' ? target : `${target}.json`
    await writeResult(output, `${JSON.stringify(result, undefined, 2)}\n`)
    return { output, result }
  }
}

function suffixIn(reply: IncomingMessage): string | undefined {
  return /filename="[^".]*(\.[^"]+)"/.exec(reply.headers['content-disposition'] ?? '')?.[1]
}

async function readParams(text: string | undefined): Promise<Record<string, unknown>> {
  if (text === undefined) return {}
  const json = text.startsWith('@') ? await readFile(text.slice(1), 'utf8') : text
  try {
    const value: unknown = JSON.parse(json)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>
  } catch {
    // said below
  }
  throw new UsageError('--params is no JSON object', `as in --params '{"result_dtype": "uint8"}'`)
}

function readPoints(flag: string, words: readonly string[] = []): number[][] {
  return words.flatMap((word) =>
    word.split(/[;\s]+/).map((text) => {
      const point = text.split(',').map(Number)
      if (point.length !== 3 || point.some((n) => !Number.isFinite(n)))
        throw new UsageError(`${flag} '${text}' is no voxel`, 'as in 120,85,40: column, row and slice, from 0')
      return point
    }),
  )
}

function deepgrowParams({ foreground, background, box, slice }: Options): Record<string, unknown> {
  if (!foreground && box === undefined)
    throw new UsageError(
      '--foreground or --box is missing',
      'as in --foreground 120,85,40, or --box 90,60,150,110 --slice 40',
    )
  if (slice !== undefined && box === undefined)
    throw new UsageError('--slice is that of --box', 'a click has its own, as in --foreground 120,85,40')
  const corners = box?.split(',').map(Number)
  if (corners && (corners.length !== 4 || corners.some((n) => !Number.isFinite(n))))
    throw new UsageError(`--box '${box}' is no box`, 'as in 90,60,150,110: column and row of two corners, from 0')
  return {
    foreground: readPoints('--foreground', foreground),
    background: readPoints('--background', background),
    ...(corners ? { box: corners } : {}),
    ...(slice === undefined ? {} : { slice: readNumber('--slice', slice) }),
  }
}

function readNumber(name: string, text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new UsageError(`${name}: '${text}' is no number`)
  return value
}
