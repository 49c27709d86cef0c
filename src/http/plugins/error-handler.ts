/** The one place where a thrown error becomes a status, a reason phrase and a body; and where unknown URLs are answered. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { hasZodFastifySchemaValidationErrors, isResponseSerializationError } from 'fastify-type-provider-zod'
import { AppError, type ErrorCode } from '../../errors.js'
import type { ErrorBody } from '../schemas.js'

/** What an error of the framework or of a library means to a client; undefined when it is our own fault. */
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'BAD_REQUEST',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  406: 'BAD_REQUEST',
  413: 'TOO_LARGE',
  415: 'UNSUPPORTED_FORMAT',
  429: 'TOO_MANY_REQUESTS',
}

/** The disk or the table of open files is full: not the client's fault, and over when other requests have ended. */
const OUT_OF_ROOM: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE'])

export const errorHandler = fp(
  async (app: FastifyInstance) => {
    const methodsOf = collectMethods(app)

    app.setErrorHandler<FastifyError>((error, request, reply) => {
      const known = toAppError(error)
      if (known.statusCode >= 500) request.log.error({ err: error, code: known.code }, 'request failed')
      else request.log.info({ code: known.code, status: known.statusCode }, 'request refused')
      return sendError(known, request, reply)
    })

    app.setNotFoundHandler((request, reply) => {
      const path = request.url.split('?', 1)[0]!
      const allowed = methodsOf(path)
      if (allowed.length > 0) {
        reply.header('allow', allowed.join(', '))
        const message = `${request.method} is not possible here; ${allowed.join(', ')} is`
        return sendError(new AppError('METHOD_NOT_ALLOWED', message), request, reply)
      }
      const base = `${request.protocol}://${request.host || 'localhost'}`
      const error = new AppError(
        'NOT_FOUND',
        `there is nothing at this URL; the API of this server starts at ${base}/`,
        {
          hint: `see ${base}/docs for every route; a client's server address is ${base} without /v1`,
        },
      )
      return sendError(error, request, reply)
    })
  },
  { name: 'error-handler' },
)

function toAppError(error: FastifyError): AppError {
  if (error instanceof AppError) return error
  if (hasZodFastifySchemaValidationErrors(error)) {
    const place = error.validationContext === 'querystring' ? 'query parameter' : (error.validationContext ?? 'request')
    const problems = error.validation.map((issue) => {
      const name = issue.instancePath.replace(/^\//, '').replaceAll('/', '.')
      return name === '' ? `${place}: ${issue.message}` : `${place} '${name}': ${issue.message}`
    })
    return new AppError('BAD_PARAMS', problems.join('; '), { cause: error })
  }
  if (isResponseSerializationError(error)) return new AppError('INTERNAL', 'internal error', { cause: error })
  if (error.code === 'FST_ERR_CTP_INVALID_JSON_BODY' || error.code === 'FST_ERR_CTP_EMPTY_JSON_BODY')
    return new AppError('BAD_REQUEST', 'the body is not valid JSON', { cause: error })
  if (OUT_OF_ROOM.has(error.code))
    return new AppError('BUSY', 'the server has no room left for this request', { cause: error, retryAfterSeconds: 60 })
  const code = error.statusCode === undefined ? undefined : CODE_OF_STATUS[error.statusCode]
  if (code !== undefined) return new AppError(code, error.message, { cause: error })
  if (error.statusCode === 503)
    return new AppError('DEADLINE_EXCEEDED', 'the server could not answer in time', { cause: error })
  return new AppError('INTERNAL', 'internal error', { cause: error })
}

function sendError(error: AppError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const message = error.code === 'INTERNAL' ? 'internal error' : error.message
  const body: ErrorBody = {
    error: { type: typeOf(error.code), message: [message] },
    success: false,
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    request_id: request.id,
  }
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', Math.ceil(error.retryAfterSeconds))
  reply.raw.statusMessage = reasonPhrase(message)
  // Serialised here: the schema of a route need not list every status that its plugins may answer with.
  return reply
    .code(error.statusCode)
    .header('content-type', 'application/json; charset=utf-8')
    .send(`${JSON.stringify(body)}\n`)
}

/** MODEL_NOT_FOUND as AIAA would spell it: ModelNotFound. */
function typeOf(code: ErrorCode): string {
  return code
    .split('_')
    .map((word) => word[0] + word.slice(1).toLowerCase())
    .join('')
}

/** The C++ client shows nothing else of a refused GET or PUT, so the status line says why, in printable ASCII. */
function reasonPhrase(message: string): string {
  return (
    message
      .replace(/[^\x20-\x7e]+/g, ' ')
      .slice(0, 200)
      .trim() || 'Error'
  )
}

/** Remembers every route as it is registered, so that a wrong method can be told from an unknown URL. */
function collectMethods(app: FastifyInstance): (path: string) => string[] {
  const routes: { readonly methods: readonly string[]; readonly pattern: RegExp }[] = []
  app.addHook('onRoute', ({ method, url }) => {
    if (url.includes('*')) return
    const segments = url
      .split('/')
      .map((part) => (part.startsWith(':') ? '[^/]+' : part.replace(/[.+^$()|[\]\\]/g, '\\$&')))
    const methods = Array.isArray(method) ? method : [method]
    routes.push({ methods, pattern: new RegExp(`^${segments.join('/')}/?$`) })
  })
  return (path) => {
    const matching = routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods)
    return [...new Set(matching)].filter((method) => method !== 'OPTIONS').sort()
  }
}
