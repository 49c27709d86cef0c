/** A request's id: the client's own where it is safe as a folder name, else a fresh one. */
import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { SAFE_NAME } from '../util/safe-name.js'

export function requestId(request: IncomingMessage): string {
  const given = request.headers['x-request-id']
  return typeof given === 'string' && SAFE_NAME.test(given) && !given.endsWith('.') ? given : randomUUID()
}
