/** How an error looks on the wire: status, reason phrase, and the body that AIAA's clients know, with our code and hint. */
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { hasZodFastifySchemaValidationErrors, isResponseSerializationError } from 'fastify-type-provider-zod'
import { AppError, type ErrorCode, machineFault } from '../errors.js'
import type { ErrorBody } from './schemas.js'

/** What an error of the framework or of a library means to a client; undefined when it is our own fault. */
const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'BAD_REQUEST',
  404: 'NOT_FOUND',
  405: 'METHOD_NOT_ALLOWED',
  406: 'BAD_REQUEST',
  413: 'TOO_LARGE',
  414: 'NOT_FOUND',
  415: 'UNSUPPORTED_FORMAT',
  429: 'TOO_MANY_REQUESTS',
}

const CONNECTION_FAULTS: Readonly<Record<string, readonly [number, string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request did not arrive in time'],
  HPE_HEADER_OVERFLOW: [431, 'the headers of the request are too large'],
}

/** Any error in our own words: the framework's by their status, everything unknown as an opaque INTERNAL. */
export function toAppError(error: FastifyError): AppError {
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
  const machine = machineFault(error)
  if (machine) return machine
  if (error.code === 'FST_ERR_BAD_URL')
    return new AppError('BAD_REQUEST', 'the URL is not well formed: a % must be followed by two hexadecimal digits')
  const code = error.statusCode === undefined ? undefined : CODE_OF_STATUS[error.statusCode]
  if (code !== undefined) return new AppError(code, error.message, { cause: error })
  if (error.statusCode === 503)
    return new AppError('DEADLINE_EXCEEDED', 'the server could not answer in time', { cause: error })
  return new AppError('INTERNAL', 'internal error', { cause: error })
}

/** Status, reason phrase and body of a refusal. */
export function sendError(error: AppError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const message = error.code === 'INTERNAL' ? 'internal error' : error.message
  request.errorCode = error.code
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', Math.ceil(error.retryAfterSeconds))
  reply.raw.statusMessage = reasonPhrase(message)
  // Serialised here: the schema of a route need not list every status that its plugins may answer with.
  return reply
    .code(error.statusCode)
    .header('content-type', 'application/json; charset=utf-8')
    .send(errorText(error, request.id))
}

function errorText(error: AppError, requestId: string): string {
  const body: ErrorBody = {
    error: { type: typeOf(error.code), message: [error.code === 'INTERNAL' ? 'internal error' : error.message] },
    success: false,
    code: error.code,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    request_id: requestId,
  }
  return `${JSON.stringify(body)}\n`
}

/** Answers bytes that are no HTTP request, or one that was not complete in time: there is no request to reply to yet. */
export function refuseConnection(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  // Before the two have agreed on a key nothing can be said.
  if (error.code?.startsWith('ERR_SSL_')) {
    socket.destroy()
    return
  }
  const [status, message] = CONNECTION_FAULTS[error.code ?? ''] ?? [400, 'this is not an HTTP request']
  const body = errorText(new AppError('BAD_REQUEST', message), randomUUID())
  if (socket.writable)
    socket.end(
      `HTTP/1.1 ${status} ${message}\r\nContent-Type: application/json; charset=utf-8\r\n` +
        `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    )
  else socket.destroy()
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
