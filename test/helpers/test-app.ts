/** The whole HTTP application around a fake scheduler, in a workspace of its own that goes with it. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'
import { pino } from 'pino'
import { Tokens } from '../../src/access/tokens.js'
import { buildApp } from '../../src/app.js'
import { loadConfig } from '../../src/config/load.js'
import type { ModelConfig, ModelRef } from '../../src/contract/model.js'
import { createDatastore } from '../../src/datastore/create-datastore.js'
import { AppError } from '../../src/errors.js'
import { AuditLog } from '../../src/observability/audit-log.js'
import { LogRing } from '../../src/observability/log-ring.js'
import { Metrics } from '../../src/observability/metrics.js'
import type { ModelEntry, ModelRegistry } from '../../src/registry/registry.js'
import { BOARD_DEFAULTS, RequestBoard } from '../../src/scheduler/request-board.js'
import { createDicomweb, metricsLimits, type Services } from '../../src/services.js'
import { createSessions } from '../../src/sessions/create-sessions.js'
import { Background } from '../../src/util/background.js'
import { systemClock } from '../../src/util/clock.js'
import { silentLog } from '../../src/util/log.js'
import { openWorkspace } from '../../src/workspace/open-workspace.js'
import { type Answer, type FakeScheduler, fakeScheduler } from './fake-scheduler.js'

export interface TestAppOptions {
  readonly answer?: Answer
  /** As on the command line: `['--max-upload-bytes', '1m']`. */
  readonly flags?: readonly string[]
  readonly services?: Partial<Services>
}

export interface TestApp extends AsyncDisposable {
  readonly app: FastifyInstance
  readonly services: Services
  readonly scheduler: FakeScheduler
  readonly workspace: string
  inject(options: InjectOptions | string): Promise<LightMyRequestResponse>
  /** Listens on a free loopback port; gives it. */
  listen(): Promise<number>
  /** What is left under workspace/tmp. */
  leftovers(): Promise<string[]>
}

export async function testApp({ answer, flags = [], services: overrides = {} }: TestAppOptions = {}): Promise<TestApp> {
  const folder = await mkdtemp(join(tmpdir(), 'aidant-app-'))
  const config = loadConfig(['--workspace', folder, ...flags], {})
  const scheduler = fakeScheduler(answer)
  const workspace = await openWorkspace(folder, { log: silentLog })
  const sessions = await createSessions({
    workspace,
    clock: systemClock,
    log: silentLog,
    maxBytes: config.sessionMaxBytes,
    maxSessions: config.maxSessions,
    defaultExpirySeconds: config.sessionExpiry,
    maxExpirySeconds: config.sessionMaxExpiry,
  })
  const datastore =
    config.datastore === ''
      ? undefined
      : await createDatastore({
          path: config.datastore,
          clock: systemClock,
          log: silentLog,
          maxBytes: config.datastoreMaxBytes,
          maxImages: config.datastoreMaxImages,
          expirySeconds: config.datastoreExpiry,
        })
  const dicomweb = await createDicomweb(config, silentLog)
  const board = new RequestBoard({
    ...BOARD_DEFAULTS,
    clock: systemClock,
    resultExpirySeconds: config.resultExpiry,
    maxKept: config.maxKeptResults,
    log: silentLog,
  })
  const logs = new LogRing()
  const tmpRoot = workspace.requests
  const background = new Background(silentLog)
  const services: Services = {
    logger: pino({ level: 'info', base: null }, logs),
    logs,
    tokens: await Tokens.open({ api: config.apiTokenFile, admin: config.adminTokenFile }),
    audit:
      config.auditLog === 'workspace'
        ? undefined
        : new AuditLog({ path: config.auditLog, maxBytes: config.auditMaxBytes, log: silentLog }),
    tls: undefined,
    metrics: config.metrics ? new Metrics('0.0.0', metricsLimits(config), { process: false }) : undefined,
    registry: fakeRegistry(['spleen', 'deepgrow']),
    scheduler,
    sessions,
    datastore,
    dicomweb,
    board,
    fetchSource: async () => {
      throw new AppError('FETCH_FORBIDDEN', 'fetching is off')
    },
    background,
    workspace: folder,
    tmpRoot,
    readiness: () => undefined,
    reload: async () => {},
    announceEnd: () => {},
    async stopJobs() {
      await background.close()
      await board.close()
    },
    async close() {
      dicomweb?.index.close()
      await datastore?.close()
      await sessions.close()
      await workspace.close()
    },
    ...overrides,
  }
  const app = await buildApp(services, config)
  const undocumented = watchStatuses(app)
  return {
    app,
    services,
    scheduler,
    workspace: folder,
    inject: (options) => app.inject(options),
    async listen() {
      const address = await app.listen({ host: '127.0.0.1', port: 0 })
      return Number(new URL(address).port)
    },
    async leftovers() {
      return readdir(tmpRoot).catch(() => [])
    },
    async [Symbol.asyncDispose]() {
      await services.stopJobs(0)
      await app.close()
      await services.close()
      await rm(folder, { recursive: true, force: true })
      if (undocumented.size > 0) throw new Error(`not in the OpenAPI document: ${[...undocumented].join(', ')}`)
    },
  }
}

/** Every answer of a documented route has a status that the document lists; gives those that do not, as they come. */
function watchStatuses(app: FastifyInstance): ReadonlySet<string> {
  type Operations = Record<string, Record<string, { responses: Record<string, unknown> }> | undefined>
  const undocumented = new Set<string>()
  app.addHook('onResponse', async ({ method, routeOptions }, { statusCode }) => {
    const path = routeOptions.url?.replace(/:([^/]+)/g, '{$1}') ?? ''
    const operation = (app.swagger().paths as Operations)[path]?.[method.toLowerCase()]
    if (operation !== undefined && !(statusCode in operation.responses))
      undocumented.add(`${method} ${path} answers ${statusCode}`)
  })
  return undocumented
}

const config: ModelConfig = {
  version: '3',
  type: 'segmentation',
  labels: ['spleen'],
  description: 'for tests',
  info: {},
  preTransforms: [],
  postTransforms: [],
  inference: { image: 'image', engine: 'onnxruntime', nodeMapping: {}, session: {} },
}

/** Knows some names, all with one config, and takes no changes. */
export function fakeRegistry(names: readonly string[]): ModelRegistry {
  const find = (name: string): ModelRef => {
    if (!names.includes(name)) throw new AppError('MODEL_NOT_FOUND', `model '${name}' is not loaded`)
    const type = { deepgrow: 'deepgrow', dextr3d: 'annotation' }[name] ?? config.type
    return { name, revision: '1', config: { ...config, type: type as ModelConfig['type'] } }
  }
  const entry = (name: string): ModelEntry => ({
    ...find(name),
    generation: 0,
    origin: 'bundled',
    state: 'UNLOADED',
    createdAt: '2026-01-01T00:00:00Z',
  })
  const refuse = async () => {
    throw new AppError('BUSY_NAME', 'this registry takes no changes')
  }
  return {
    list: () => names.map(entry),
    get: entry,
    resolve: find,
    put: refuse,
    draft: refuse,
    patch: refuse,
    remove: refuse,
    close: async () => {},
  }
}
