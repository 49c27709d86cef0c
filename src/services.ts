/** The composition root: the only place that creates services. Everything is created once and closed in reverse order. */
import { access, appendFile, readFile, statfs } from 'node:fs/promises'
import { availableParallelism, cpus, hostname } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import { TlsIdentity, TlsRefused } from './access/tls-identity.js'
import { Tokens, TokensRefused } from './access/tokens.js'
import { ConfigError } from './config/load.js'
import type { Config } from './config/schema.js'
import { createDatastore } from './datastore/create-datastore.js'
import type { Datastore } from './datastore/datastore.js'
import { DatastoreRefused } from './datastore/open-folder.js'
import { AppError, type ErrorCode } from './errors.js'
import { readAuthorization } from './fetchers/credentials.js'
import { createDicomwebServer, type DicomwebServer } from './fetchers/dicomweb-server.js'
import type { FetchLimits } from './fetchers/fetch-context.js'
import { createFetchSource, type FetchSource } from './fetchers/fetch-source.js'
import { createSeriesIndex, type SeriesIndex } from './fetchers/series-index.js'
import { AuditLog } from './observability/audit-log.js'
import { LogRing } from './observability/log-ring.js'
import { createLogger } from './observability/logger.js'
import { Metrics, type MetricsLimits } from './observability/metrics.js'
import { parseDevice } from './predictors/device.js'
import { startPreload } from './preload.js'
import type { IntakeLimits } from './registry/intake.js'
import { openRegistry } from './registry/open-registry.js'
import type { ModelRegistry } from './registry/registry.js'
import { createScheduler, type SchedulerOptions } from './scheduler/create-scheduler.js'
import { BOARD_DEFAULTS, RequestBoard } from './scheduler/request-board.js'
import type { Scheduler } from './scheduler/scheduler.js'
import { createSessions } from './sessions/create-sessions.js'
import type { Sessions } from './sessions/sessions.js'
import { Background } from './util/background.js'
import { systemClock } from './util/clock.js'
import type { Log } from './util/log.js'
import { readVersion } from './util/version.js'
import { KeptChoices } from './workspace/kept-choices.js'
import { WorkspaceRefused } from './workspace/mark.js'
import { AUDIT } from './workspace/names.js'
import { openWorkspace, type Workspace } from './workspace/open-workspace.js'

/** A MONAI bundle has some dozens of files, with external data a few hundred. */
const MOST_ARCHIVE_ENTRIES = 10_000
/** The largest real config seen has 20 KB. */
const MOST_CONFIG_BYTES = 4 * 1024 * 1024

/** What the operator of the machine changed, in files and by a signal. */
const BY_OPERATOR = {
  request: '',
  who: undefined,
  address: 'this machine',
  model: undefined,
  outcome: 'done',
  status: 200,
  code: undefined,
} as const

/** How often we look for what other servers' trials found. */
const REWRITES_MS = 60_000

/** How often files that may change while the server runs are looked at. */
const RELOAD_MS = 5000

export interface Dicomweb {
  readonly server: DicomwebServer
  readonly index: SeriesIndex
}

export interface Services {
  readonly logger: Logger
  readonly logs: LogRing
  /** Undefined where the operator wants none. */
  readonly metrics: Metrics | undefined
  /** Undefined where the operator wants none. */
  readonly audit: AuditLog | undefined
  readonly tokens: Tokens
  /** Undefined where the server speaks plain HTTP. */
  readonly tls: TlsIdentity | undefined
  readonly registry: ModelRegistry
  readonly scheduler: Scheduler
  readonly sessions: Sessions
  /** Undefined unless the operator wants one. */
  readonly datastore: Datastore | undefined
  /** The DICOMweb service whose series are images; undefined unless the operator names one. */
  readonly dicomweb: Dicomweb | undefined
  readonly board: RequestBoard
  /** Fetches a session's image from another server, if the operator allows it. */
  readonly fetchSource: FetchSource
  /** What no request waits for. */
  readonly background: Background
  /** Absolute paths. */
  readonly workspace: string
  readonly tmpRoot: string
  /** Undefined when the server can answer; else why not. */
  readonly readiness: () => string | undefined
  /** Reads anew what an operator may change while the server runs: tokens, the certificate. */
  reload(): Promise<void>
  /** Before the end: `readiness` says that it comes, and nothing else changes. */
  announceEnd(): void
  /** First: lets running jobs finish for `graceMs`, then cancels them; leaves no child process. */
  stopJobs(graceMs: number): Promise<void>
  /** Last, when the responses have left: removes what is temporary. */
  close(): Promise<void>
}

/** How large an archive of a model may be, unpacked. */
export function modelIntakeLimits({ maxModelBytes }: Pick<Config, 'maxModelBytes'>): IntakeLimits {
  return { maxEntries: MOST_ARCHIVE_ENTRIES, maxBytes: maxModelBytes, maxConfigBytes: MOST_CONFIG_BYTES }
}

export async function createServices(config: Config): Promise<Services> {
  // First what only reads settings, so that a wrong one is told before anything is open.
  const fetchSource = openFetching({
    allow: config.allowFetch,
    limits: fetchLimits(config),
    dicom: { aeTitle: config.dicomAeTitle, scpPort: config.dicomPort, tls: await readTls(config) },
  })
  await checkCatalog(config.modelCatalog)
  const logs = new LogRing()
  const logger = createLogger(config.logLevel, logs)
  const dicomweb = await createDicomweb(config, logger)
  const metrics = config.metrics ? new Metrics(readVersion(), metricsLimits(config), { process: true }) : undefined
  const tokens = await openTokens(config, logger)
  const tls = await openTls(config, logger)
  const workspace = await openOurs(config.workspace, logger)
  const audit = await openAudit(config, workspace, logger, metrics)
  const sessions = await createSessions({
    workspace,
    clock: systemClock,
    log: logger,
    maxBytes: config.sessionMaxBytes,
    maxSessions: config.maxSessions,
    defaultExpirySeconds: config.sessionExpiry,
    maxExpirySeconds: config.sessionMaxExpiry,
  })
  const datastore = await openDatastore(config, workspace, logger)
  const rewrites = await openChoices(config, workspace, logger)
  const scheduler = createScheduler({
    ...schedulerSettings(config),
    rewrites,
    log: logger,
    ...(metrics ? { observer: metrics } : {}),
  })
  const registry = await openRegistry({
    workspace,
    bundledFolder: fileURLToPath(new URL('../models', import.meta.url)),
    catalog: config.modelCatalog,
    autoReload: config.autoReload,
    scheduler,
    rewrites,
    limits: modelIntakeLimits(config),
    log: logger,
  })
  const board = new RequestBoard({
    ...BOARD_DEFAULTS,
    clock: systemClock,
    resultExpirySeconds: config.resultExpiry,
    maxKept: config.maxKeptResults,
    log: logger,
  })
  metrics?.watch({
    models: () => registry.list(),
    runners: () => scheduler.status(),
    queues: () => scheduler.queues(),
    sessions: () => sessions.usage(),
    images: () => datastore?.counts(),
    disk: () => diskOf(workspace.path),
    certificateEnds: () => tls?.expiresAt,
  })
  const preload = startPreload(config.preload, { registry, scheduler, log: logger })
  const reload = async (always: boolean) => {
    if (await tokens.reload(always)) await audit?.end({ ...BY_OPERATOR, action: 'readTokens' })
    if (await tls?.reload(always)) await audit?.end({ ...BY_OPERATOR, action: 'readCertificate' })
  }
  const background = new Background(logger)
  background.every(RELOAD_MS, 'looking for new tokens and certificates', () => reload(false))
  background.every(REWRITES_MS, 'looking for what trials of other servers found', () => rewrites.refresh())
  let closing = false

  return {
    logger,
    logs,
    metrics,
    audit,
    tokens,
    tls,
    registry,
    scheduler,
    sessions,
    datastore,
    dicomweb,
    board,
    fetchSource: metrics ? countFetches(fetchSource, metrics) : fetchSource,
    background,
    workspace: workspace.path,
    tmpRoot: workspace.requests,
    readiness: () => (closing ? 'the server is shutting down' : preload.reason()),
    reload: () => reload(true),
    announceEnd() {
      closing = true
    },
    async stopJobs(graceMs) {
      closing = true
      preload.close()
      await background.close()
      await registry.close()
      await scheduler.close(graceMs)
      await board.close()
    },
    async close() {
      dicomweb?.index.close()
      await audit?.close()
      await datastore?.close()
      await sessions.close()
      await rewrites.close()
      await workspace.close()
    },
  }
}

/** The bounds that an operator looks at beside what fills them. */
export function metricsLimits(config: Config): MetricsLimits {
  return {
    sessionBytes: config.sessionMaxBytes,
    sessions: config.maxSessions,
    queuedJobs: config.maxQueuedJobs,
    loadedModels: config.maxLoadedModels,
  }
}

async function diskOf(path: string): Promise<{ size: number; free: number }> {
  const { bsize, blocks, bavail } = await statfs(path)
  return { size: bsize * blocks, free: bsize * bavail }
}

export function countFetches(fetchSource: FetchSource, metrics: Metrics): FetchSource {
  return async (body, folder, signal) => {
    const started = performance.now()
    const ended = (outcome: 'done' | ErrorCode) =>
      metrics.fetchEnded(body, outcome, (performance.now() - started) / 1000)
    try {
      const fetched = await fetchSource(body, folder, signal)
      ended('done')
      return fetched
    } catch (error) {
      ended(error instanceof AppError ? error.code : 'INTERNAL')
      throw error
    }
  }
}

async function openAudit(
  config: Config,
  workspace: Workspace,
  log: Log,
  metrics: Metrics | undefined,
): Promise<AuditLog | undefined> {
  const { auditLog, auditMaxBytes: maxBytes } = config
  if (auditLog === '') return undefined
  const isOurs = auditLog === 'workspace'
  // A file a machine: on NFS two that append at once would overwrite each other.
  const path = isOurs ? join(workspace.path, AUDIT, `${hostname().replace(/[^\w.-]/g, '_')}.jsonl`) : resolve(auditLog)
  if (!isOurs)
    await appendFile(path, '', { mode: 0o600 }).catch((error: NodeJS.ErrnoException) => {
      throw new ConfigError([`--audit-log: nothing can be appended to this file (${error.code})`])
    })
  return new AuditLog({ path, makesFolder: isOurs, maxBytes, log, onFailure: () => metrics?.auditFailed() })
}

async function openTokens(config: Config, log: Log): Promise<Tokens> {
  try {
    return await Tokens.open({ api: config.apiTokenFile, admin: config.adminTokenFile }, log)
  } catch (error) {
    if (error instanceof TokensRefused) throw new ConfigError([`--${error.right}-token-file: ${error.message}`])
    throw error
  }
}

async function openTls(config: Config, log: Log): Promise<TlsIdentity | undefined> {
  const { ssl, sslCert: cert, sslKey: key, sslKeyPassphraseFile: passphrase } = config
  const problems = []
  if (cert === '' && (ssl === true || key !== '' || passphrase !== ''))
    problems.push('--ssl-cert: must name the certificate of this server')
  if (key === '' && (ssl === true || cert !== ''))
    problems.push('--ssl-key: must name the private key of the certificate')
  if (ssl !== false && problems.length > 0) throw new ConfigError(problems)
  if (ssl === false && cert !== '')
    log.warn({ flag: '--ssl' }, 'plain http, as --ssl false says, though there is a certificate')
  if (ssl === false || cert === '') return undefined
  try {
    return await TlsIdentity.open({ cert, key, passphrase }, log)
  } catch (error) {
    if (error instanceof TlsRefused) throw new ConfigError([`${error.flag}: ${error.message}`])
    throw error
  }
}

async function openOurs(path: string, log: Log): Promise<Workspace> {
  try {
    return await openWorkspace(path, { log })
  } catch (error) {
    if (error instanceof WorkspaceRefused) throw new ConfigError([`--workspace: ${error.message}`])
    throw error
  }
}

/** What a network takes depends on the processor and on how many cores and networks share it. */
function openChoices({ device, instances }: Config, workspace: Workspace, log: Log): Promise<KeptChoices> {
  const machine = [cpus()[0]?.model ?? process.arch, availableParallelism(), instances, device].join(', ')
  return KeptChoices.open({ folder: workspace.rewrites, machine, discard: (path) => workspace.discard(path), log })
}

async function openDatastore(config: Config, workspace: Workspace, log: Log): Promise<Datastore | undefined> {
  if (config.datastore === '') return undefined
  try {
    return await createDatastore({
      path: config.datastore === 'workspace' ? join(workspace.path, 'datastore') : resolve(config.datastore),
      clock: systemClock,
      log,
      maxBytes: config.datastoreMaxBytes,
      maxImages: config.datastoreMaxImages,
      expirySeconds: config.datastoreExpiry,
    })
  } catch (error) {
    if (error instanceof DatastoreRefused) throw new ConfigError([`--datastore: ${error.message}`])
    throw error
  }
}

function fetchLimits(config: Config): FetchLimits {
  return {
    maxBytes: config.maxUploadBytes,
    maxFiles: config.maxUploadFiles,
    seconds: config.fetchDeadline,
    silenceSeconds: config.fetchSilence,
  }
}

/** The service that `--dicomweb-url` names, undefined where it names none. Throws ConfigError; asks the service nothing. */
export async function createDicomweb(config: Config, log: Log): Promise<Dicomweb | undefined> {
  const { dicomwebUrl: url, dicomwebCredentials: credentials, storeLabels } = config
  if (url === '') {
    const idle = { '--dicomweb-credentials': credentials !== '', '--store-labels': storeLabels }
    const problems = Object.entries(idle).filter(([, isSet]) => isSet)
    if (problems.length > 0) throw new ConfigError(problems.map(([flag]) => `${flag}: needs --dicomweb-url`))
    return undefined
  }
  let authorization: string | undefined
  try {
    authorization = credentials === '' ? undefined : await readAuthorization(credentials, process.env)
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError([`--dicomweb-credentials: ${error.message}`])
    throw error
  }
  let server: DicomwebServer
  try {
    server = createDicomwebServer({
      url,
      authorization,
      allow: config.allowFetch,
      limits: fetchLimits(config),
      maxAnswerBytes: config.dicomwebMaxAnswer,
      maxSeries: config.dicomwebMaxSeries,
      filter: config.dicomwebFilter,
    })
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError([`--dicomweb-url: ${error.message}`])
    throw error
  }
  const index = createSeriesIndex({
    server,
    clock: systemClock,
    maxAgeMs: config.dicomwebRefresh * 1000,
    onFailure: (err) => log.warn({ err }, 'the DICOMweb service could not be listed'),
  })
  return { server, index }
}

function openFetching(settings: Parameters<typeof createFetchSource>[0]): FetchSource {
  try {
    return createFetchSource(settings)
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError([`--allow-fetch: ${error.message}`])
    throw error
  }
}

/** What of the settings is the scheduler's, in its own units. */
export function schedulerSettings(config: Config): SchedulerOptions {
  return {
    device: parseDevice(config.device)!,
    maxQueuedJobs: config.maxQueuedJobs,
    keepAliveMs: config.keepAlive * 1000,
    maxLoadedModels: config.maxLoadedModels,
    instances: config.instances,
    spareKeepAliveMs: config.spareKeepAlive * 1000,
    memoryBudgetBytes: config.memoryBudget === 0 ? undefined : config.memoryBudget,
    rewriteTrialMs: config.optimise === 'off' ? 0 : config.optimiseTrial * 1000,
    networkBytes: config.networkMemory,
    maxTrialValues: config.maxTrialValues,
    cacheBytes: config.runnerCacheBytes,
    cancelGraceMs: config.cancelGrace * 1000,
    loadTimeoutMs: config.loadDeadline * 1000,
    proveTimeoutMs: config.proveDeadline * 1000,
    proveMemoryBytes: config.proveMemory,
    maxProofs: config.maxProofs,
    fetch: {
      allow: config.allowFetch,
      deadlineMs: config.fetchDeadline * 1000,
      maxBytes: config.maxVolumeBytes,
    },
    toolRunners: config.toolRunners,
  }
}

/** A mistyped path is told at the start, not at the first PUT that looks there. */
async function checkCatalog(path: string): Promise<void> {
  if (path === '') return
  await access(path).catch(() => {
    throw new ConfigError([`--model-catalog: must be a folder or a JSON file, and nothing readable is at '${path}'`])
  })
}

/** The files that secure associations with DICOM servers need; undefined when none is named. */
async function readTls({ dicomTlsKey, dicomTlsCert, dicomTlsCa }: Config) {
  const files = { key: dicomTlsKey, cert: dicomTlsCert, ca: dicomTlsCa }
  const named = Object.entries(files).filter(([, path]) => path !== '')
  if (named.length === 0) return undefined
  return Object.fromEntries(await Promise.all(named.map(async ([name, path]) => [name, await readFile(path)] as const)))
}
