/** `aidant doctor`: whether this machine can serve, and what to do where it cannot. */
import { access, constants, mkdir, rm, statfs, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { loadConfig } from '../../config/load.js'
import type { Config } from '../../config/schema.js'
import { isLoopback } from '../../util/ip-address.js'
import { oldestNode } from '../../util/version.js'
import { examineFolder, WorkspaceRefused } from '../../workspace/mark.js'
import { EXIT } from '../exit-codes.js'
import { startLocalServer } from '../local-server.js'
import { table } from '../table.js'
import { told } from '../told.js'

export interface Finding {
  readonly what: string
  /** 'note': works, but not as well as it could. */
  readonly state: 'ok' | 'note' | 'bad'
  readonly found: string
  /** What to do about it. */
  readonly advice?: string
}

const GiB = 2 ** 30
/** The bundled models and a CT under work together; see the README's section for admins. */
const LITTLE_MEMORY = 4 * GiB
/** Less than one large upload with its session. */
const LITTLE_DISK = 5 * GiB

interface Options {
  readonly json?: boolean
  readonly models: boolean
}

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('look whether this machine can serve: Node, CPU, memory, GPU, workspace, port, models')
    .option('--no-models', 'do not load the models')
    .option('--json', 'the findings as JSON')
    .argument('[flags...]', 'flags of aidant serve to look at, behind --')
    .action(
      told(async (flags: string[], options: Options) => {
        const config = loadConfig(flags, process.env)
        const findings = [...(await examineMachine(config)), ...(options.models ? await examineModels(config) : [])]
        if (options.json) process.stdout.write(`${JSON.stringify(findings, undefined, 2)}\n`)
        else {
          const rows = findings.map(({ state, what, found }) => [state, what, found])
          const [, ...lines] = table(['', '', ''], rows)
          for (const [i, line] of lines.entries()) {
            const { advice } = findings[i]!
            process.stdout.write(`${line}\n${advice === undefined ? '' : `      ${advice}\n`}`)
          }
        }
        if (findings.some(({ state }) => state === 'bad')) process.exitCode = EXIT.failed
      }),
    )
}

export async function examineMachine(config: Config): Promise<Finding[]> {
  return [
    examineNode(process.versions.node),
    { what: 'CPU', state: 'ok', found: `${cpus()[0]?.model.trim() ?? 'unknown'}, ${availableParallelism()} cores` },
    examineMemory(totalmem(), freemem()),
    ...(await examineGpu()),
    ...(await examineWorkspace(resolve(config.workspace))),
    await examinePort(config),
    examineAccess(config),
  ]
}

/** Who can reach it, by its settings alone. */
export function examineAccess(
  config: Pick<Config, 'host' | 'ssl' | 'sslCert' | 'apiTokenFile' | 'adminTokenFile' | 'adminHosts'>,
): Finding {
  const what = 'access'
  const { host, apiTokenFile, adminTokenFile, adminHosts } = config
  if (isLoopback(host)) return { what, state: 'ok', found: `programs of this machine only (--host ${host})` }
  const open = [
    ...(apiTokenFile === '' ? ['the API is open (--api-token-file)'] : []),
    ...(apiTokenFile === '' && adminTokenFile === '' && adminHosts.includes('*')
      ? ['so is /admin (--admin-token-file or --admin-hosts)']
      : []),
    ...(config.sslCert === '' || config.ssl === false ? ['what is sent can be read on the way (--ssl-cert)'] : []),
  ]
  return open.length === 0
    ? { what, state: 'ok', found: 'other machines, with tokens, by https' }
    : {
        what,
        state: 'note',
        found: `other machines: ${open.join(', ')}`,
        advice: 'See docs/admin.md, "On a wide network".',
      }
}

export function examineNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const oldest = oldestNode()
  const old = major < oldest[0] || (major === oldest[0] && minor < oldest[1])
  return old
    ? { what: 'Node', state: 'bad', found: version, advice: `Aidant needs Node ${oldest.join('.')} or newer.` }
    : { what: 'Node', state: 'ok', found: version }
}

export function examineMemory(total: number, free: number): Finding {
  const found = `${gigabytes(total)}, ${gigabytes(free)} free`
  return total < LITTLE_MEMORY
    ? { what: 'memory', state: 'note', found, advice: 'Large scans may not fit: --max-loaded-models 1 needs least.' }
    : { what: 'memory', state: 'ok', found }
}

async function examineGpu(): Promise<Finding[]> {
  const device = await exists('/dev/nvidiactl')
  const { cudaProviderInstalled } = await import('../../predictors/onnxruntime.js')
  const provider = cudaProviderInstalled()
  if (!device) return [{ what: 'GPU', state: 'note', found: 'no NVIDIA GPU seen', advice: 'Networks run on the CPU.' }]
  return provider
    ? [{ what: 'GPU', state: 'ok', found: 'an NVIDIA GPU, and the CUDA provider is installed' }]
    : [
        {
          what: 'GPU',
          state: 'note',
          found: 'an NVIDIA GPU, but the CUDA provider is not installed',
          advice: 'node scripts/install-cuda.mjs brings it (Linux, CUDA 13 and cuDNN 9).',
        },
      ]
}

async function examineWorkspace(folder: string): Promise<Finding[]> {
  const what = 'workspace'
  const there = await exists(folder)
  const refusal = there ? await refusalOf(folder) : undefined
  if (refusal !== undefined) return [{ what, state: 'bad', found: refusal, advice: 'Name another with --workspace.' }]
  const place = there ? folder : await nearestFolder(folder)
  const probe = join(place, `.aidant-doctor-${process.pid}`)
  try {
    await mkdir(probe)
    await writeFile(join(probe, 'probe'), '')
    await rm(probe, { recursive: true })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const advice = 'Name another with --workspace, or give this user the right to write there.'
    return [{ what, state: 'bad', found: `${folder} cannot be written (${code})`, advice }]
  }
  const { type, bavail, bsize } = await statfs(place)
  const free = bavail * bsize
  const found = `${folder}${there ? '' : ' (made at the first start)'}, ${diskKind(type)}, ${gigabytes(free)} free`
  return free < LITTLE_DISK
    ? [{ what, state: 'note', found, advice: 'Sessions and models need room: --workspace names another disk.' }]
    : [{ what, state: 'ok', found }]
}

/** Why a server would not take an existing folder as its workspace; undefined when it would. */
async function refusalOf(folder: string): Promise<string | undefined> {
  try {
    await examineFolder(folder)
    return undefined
  } catch (error) {
    if (error instanceof WorkspaceRefused) return error.message
    throw error
  }
}

async function nearestFolder(path: string): Promise<string> {
  const parent = dirname(path)
  return parent === path || (await exists(parent)) ? parent : nearestFolder(parent)
}

/** Magic numbers of statfs(2). Locks and renames work on all of them; a network's is slower. */
const DISKS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  16914836: 'in memory: gone with the machine',
  26985: 'NFS, a network share',
  4283649346: 'CIFS, a network share',
  4266872130: 'SMB, a network share',
  2035054128: 'overlay: gone with the container',
}

function diskKind(type: number): string {
  return DISKS[type] ?? 'a local disk'
}

async function examinePort({ host, port }: Config): Promise<Finding> {
  const what = 'port'
  const where = `${port} on ${host}`
  const error = await new Promise<NodeJS.ErrnoException | undefined>((done) => {
    const server = createServer()
    server.once('error', done)
    server.listen({ host: host.replace(/^\[|\]$/g, ''), port }, () => server.close(() => done(undefined)))
  })
  return error
    ? {
        what,
        state: 'bad',
        found: `${where} cannot be listened on (${error.code})`,
        advice: 'Choose another: --port 5001.',
      }
    : { what, state: 'ok', found: `${where} is free` }
}

interface Model {
  readonly name: string
  readonly state: string
  readonly reason?: string
}
interface Loaded {
  readonly device?: string
  readonly rss_bytes?: number
  readonly fallback_reason?: string
}

async function examineModels({ workspace, device }: Config): Promise<Finding[]> {
  const server = await startLocalServer({
    device,
    ...((await exists(workspace)) && !(await refusalOf(workspace)) ? { workspace } : {}),
  })
  try {
    const findings: Finding[] = []
    for (const { name } of await server.client.ask<Model[]>('GET', '/admin/model')) {
      const what = `model ${name}`
      const at = `/admin/model/${encodeURIComponent(name)}`
      try {
        const started = Date.now()
        await server.client.ask('POST', `${at}/load`)
        const seconds = ((Date.now() - started) / 1000).toFixed(1)
        const running = (await server.client.ask<(Loaded & { model: string })[]>('GET', '/admin/ps')).find(
          ({ model }) => model === name,
        )
        const { fallback_reason: reason, rss_bytes: held } = running ?? {}
        const memory = held === undefined ? '' : `, holds ${gigabytes(held)} before its first scan`
        const found = `loads in ${seconds} s on ${running?.device ?? 'its engine'}${memory}`
        findings.push({ what, state: reason ? 'note' : 'ok', found, ...(reason ? { advice: reason } : {}) })
        await server.client.ask('POST', `${at}/unload`)
      } catch (error) {
        findings.push({ what, state: 'bad', found: (error as Error).message })
      }
    }
    return findings
  } finally {
    await server.close()
  }
}

async function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  )
}

function gigabytes(bytes: number): string {
  return `${(bytes / GiB).toFixed(1)} GiB`
}
