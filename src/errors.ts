import { errorTrace } from './util/error-trace.js'

/**
 * Every error a client may see: a closed list of codes, each with its HTTP status. Anything that is not an AppError is
 * our own fault and becomes an opaque 500.
 */
export const ERROR_STATUS = {
  BAD_REQUEST: 400,
  BAD_PARAMS: 400,
  BAD_NAME: 400,
  MISSING_IMAGE: 400,
  UNREADABLE_IMAGE: 400,
  BAD_GEOMETRY: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  FETCH_FORBIDDEN: 403,
  NOT_FOUND: 404,
  MODEL_NOT_FOUND: 404,
  SESSION_NOT_FOUND: 404,
  REQUEST_NOT_FOUND: 404,
  NO_IMAGES_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  BUSY_NAME: 409,
  REQUEST_NOT_READY: 409,
  TOO_LARGE: 413,
  UNSUPPORTED_FORMAT: 415,
  BAD_MODEL: 422,
  BAD_MODEL_CONFIG: 422,
  TOO_MANY_REQUESTS: 429,
  SESSION_EXPIRED: 440,
  CANCELLED: 499,
  INTERNAL: 500,
  FETCH_FAILED: 502,
  STORE_FAILED: 502,
  BUSY: 503,
  MODEL_NOT_READY: 503,
  RUNNER_CRASHED: 503,
  SHUTTING_DOWN: 503,
  DEADLINE_EXCEEDED: 504,
} as const

export type ErrorCode = keyof typeof ERROR_STATUS

export interface AppErrorOptions extends ErrorOptions {
  /** What the user can do about it, in one sentence. */
  readonly hint?: string
  /** Seconds after which trying again makes sense; becomes Retry-After. */
  readonly retryAfterSeconds?: number
}

/** An error whose message may be shown to the client: no paths, no stacks, no patient data in it. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly statusCode: number
  readonly hint: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.statusCode = ERROR_STATUS[code]
    this.hint = options.hint
    this.retryAfterSeconds = options.retryAfterSeconds
  }
}

/** An AppError as plain JSON, to cross the process boundary between server and runner. */
export interface ErrorRecord {
  readonly code: ErrorCode
  readonly message: string
  readonly hint?: string | undefined
  readonly retryAfterSeconds?: number | undefined
  /** For the log only; never sent to a client. */
  readonly stack?: string | undefined
}

/** What the system says when the machine gives out, by its error codes: nobody's request is at fault, and none of our code. */
const MACHINE_FAULTS: Readonly<Record<string, readonly [message: string, hint: string]>> = {
  ENOSPC: ['the disk of the server is full', 'an administrator must make room where --workspace lies; then try again'],
  EDQUOT: ['the disk quota of the server is used up', 'an administrator must raise it or make room; then try again'],
  EROFS: ['the disk of the server cannot be written', 'an administrator must look at where --workspace lies'],
  EIO: ['the disk of the server fails', 'an administrator must look at where --workspace lies'],
  EMFILE: ['the server has too many files open', 'try again when other requests have ended'],
  ENFILE: ['the machine of the server has too many files open', 'try again when other requests have ended'],
}
const MACHINE_RETRY_SECONDS = 60

/** A full or failing disk, or a full table of open files, as a BUSY that says so; undefined for every other error. */
export function machineFault(error: unknown): AppError | undefined {
  if (error instanceof AppError || !(error instanceof Error)) return undefined
  const found = MACHINE_FAULTS[(error as NodeJS.ErrnoException).code ?? '']
  if (!found) return undefined
  const [message, hint] = found
  return new AppError('BUSY', message, { hint, retryAfterSeconds: MACHINE_RETRY_SECONDS, cause: error })
}

export function toErrorRecord(thrown: unknown): ErrorRecord {
  const error = machineFault(thrown) ?? thrown
  if (error instanceof AppError) {
    return { code: error.code, message: error.message, hint: error.hint, retryAfterSeconds: error.retryAfterSeconds }
  }
  return { code: 'INTERNAL', message: 'internal error', stack: errorTrace(error) }
}

export function fromErrorRecord(record: ErrorRecord): AppError {
  return new AppError(record.code, record.message, {
    ...(record.hint === undefined ? {} : { hint: record.hint }),
    ...(record.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: record.retryAfterSeconds }),
    ...(record.stack === undefined ? {} : { cause: record.stack }),
  })
}
