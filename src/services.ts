/** The composition root: the only place that creates services. Everything is created once and closed in reverse order. */
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Logger } from 'pino'
import type { Config } from './config/schema.js'
import { AppError } from './errors.js'
import { sweepRequestFolders } from './http/request-folder.js'
import { LogRing } from './observability/log-ring.js'
import { createLogger } from './observability/logger.js'
import type { ModelRegistry } from './registry/registry.js'
import type { Scheduler } from './scheduler/scheduler.js'
import { createSessions } from './sessions/create-sessions.js'
import type { Sessions } from './sessions/sessions.js'
import { systemClock } from './util/clock.js'

export interface Services {
  readonly logger: Logger
  readonly logs: LogRing
  readonly registry: ModelRegistry
  readonly scheduler: Scheduler
  readonly sessions: Sessions
  /** Absolute paths. */
  readonly workspace: string
  readonly tmpRoot: string
  /** Undefined when the server can answer; else why not. */
  readonly readiness: () => string | undefined
  /** Lets running jobs finish for `graceMs`, then cancels them; leaves no child process. */
  close(graceMs: number): Promise<void>
}

export async function createServices(config: Config): Promise<Services> {
  const workspace = resolve(config.workspace)
  const tmpRoot = join(workspace, 'tmp')
  await mkdir(workspace, { recursive: true })
  await sweepRequestFolders(tmpRoot)

  const logs = new LogRing()
  const logger = createLogger(config.logLevel, logs)
  const scheduler = pendingScheduler()
  const registry = pendingRegistry()
  const sessions = await createSessions({
    folder: join(workspace, 'sessions'),
    clock: systemClock,
    maxBytes: config.sessionMaxBytes,
    maxSessions: config.maxSessions,
    defaultExpirySeconds: config.sessionExpiry,
    maxExpirySeconds: config.sessionMaxExpiry,
  })
  let closing = false

  return {
    logger,
    logs,
    registry,
    scheduler,
    sessions,
    workspace,
    tmpRoot,
    readiness: () => (closing ? 'the server is shutting down' : undefined),
    async close(graceMs) {
      closing = true
      await sessions.close()
      await registry.close()
      await scheduler.close(graceMs)
    },
  }
}

function pendingScheduler(): Scheduler {
  const no = async () => {
    throw new AppError('MODEL_NOT_READY', 'the scheduler is not built yet')
  }
  return {
    runModel: no,
    runTool: no,
    prove: no,
    load: no,
    retire: async () => {},
    status: () => [],
    close: async () => {},
  }
}

function pendingRegistry(): ModelRegistry {
  const no = (): never => {
    throw new AppError('MODEL_NOT_FOUND', 'the registry is not built yet')
  }
  return {
    list: () => [],
    get: no,
    resolve: no,
    put: no,
    patch: no,
    remove: no,
    onChange: () => () => {},
    close: async () => {},
  }
}
