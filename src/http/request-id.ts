/**
 * What a request is called in logs and errors: the client's own X-Request-Id where it is a safe word, else a fresh one.
 * It is for tracing alone and opens nothing: anybody may send any, and the log shows it. What a request computes is
 * under the secret id of its scope.
 */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { SAFE_NAME } from '../util/safe-name.js'

export function traceId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && SAFE_NAME.test(given) && !given.endsWith('.') ? given : randomUUID()
}
