/**
 * Asks for a token where the operator wants one: every route that does not call itself open wants one of the API's or an
 * operator's, /admin and /logs an operator's. A URL that leads nowhere wants one too, and says nothing of what there is.
 *
 * A token comes as `Authorization: Bearer`; as the password of Basic, which browsers ask their user for and curl takes
 * from a URL (`http://user:token@host:5000`); or before the path (`http://host:5000/token/TOKEN`), for clients that send no
 * header of their own (NVIDIA's Python client, and 3D Slicer's AIAA module with it).
 */
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { FailedAttempts } from '../../access/failed-attempts.js'
import type { Caller, Right, Tokens } from '../../access/tokens.js'
import { AppError } from '../../errors.js'
import { isAdminPath } from '../admin-paths.js'
import { clientOf } from '../client-address.js'
import { mayUseGuarded } from './cross-origin.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Whose token came with the request; undefined where none was wanted. */
    caller: Caller | undefined
  }
  interface FastifyContextConfig {
    /** Answers without a token, whatever the operator wants. */
    open?: boolean
  }
}

/** Both at once: programs take the first, browsers the one that they know how to ask for. */
const CHALLENGES = ['Bearer realm="Aidant"', 'Basic realm="Aidant", charset="UTF-8"']

const HOW =
  'send one as Authorization: Bearer TOKEN, as the password of Basic (http://user:TOKEN@host), or before the path ' +
  '(http://host/token/TOKEN)'

export interface TokenGuardOptions {
  readonly tokens: Tokens
  readonly failures: FailedAttempts
  /** `--cors-origins`. */
  readonly origins: readonly string[]
}

const tokenOfPath = new WeakMap<IncomingMessage, string>()

/** Takes a token that stands before the path off the URL, before it is routed or logged. */
export function takeTokenOffPath(request: IncomingMessage): string {
  const url = request.url ?? '/'
  const match = /^\/token\/([^/?]+)(\/.*|\?.*)?$/s.exec(url)
  if (!match) return url
  tokenOfPath.set(request, unescaped(match[1]!))
  const rest = match[2] ?? '/'
  return rest.startsWith('/') ? rest : `/${rest}`
}

export const tokenGuard = fp(
  async (app: FastifyInstance, { tokens, failures, origins }: TokenGuardOptions) => {
    app.decorateRequest('caller', undefined)
    if (!tokens.guards('admin')) return
    app.addHook('onRequest', async (request, reply) => {
      const { url, config } = request.routeOptions
      if (config?.open) return
      // The route that was found, since a path can be spelled in many ways.
      const right: Right = isAdminPath(url ?? request.url) ? 'admin' : 'api'
      if (!tokens.guards(right)) return
      const given = credentialOf(request)
      if (given === undefined) {
        reply.header('www-authenticate', CHALLENGES)
        throw new AppError('UNAUTHORIZED', 'this server wants a token', { hint: HOW })
      }
      const caller = checkToken(tokens, failures, request, given.token)
      if (!caller) {
        reply.header('www-authenticate', CHALLENGES)
        throw wrongToken()
      }
      // A browser sends what it has once been told with every request, also for a page from elsewhere: that page must
      // know a token itself.
      if (given.scheme === 'basic' && !mayUseGuarded(request, origins))
        throw new AppError('FORBIDDEN', 'a page of another origin must send its token as Authorization: Bearer', {
          hint: 'or the operator of the server names its origin with --cors-origins',
        })
      if (right === 'admin' && caller.right !== 'admin')
        throw new AppError('FORBIDDEN', 'this token may not call the admin API', {
          hint: tokens.hasAdmin
            ? 'an operator has another'
            : 'tokens that may are in the file of --admin-token-file, and this server has none',
        })
      request.caller = caller
    })
  },
  { name: 'token-guard' },
)

/**
 * Whose token it is; undefined for nobody's, which is counted and logged. Throws TOO_MANY_REQUESTS where the address has
 * sent too many of those. A right one is never refused: somebody else may share the address.
 */
export function checkToken(
  tokens: Tokens,
  failures: FailedAttempts,
  request: FastifyRequest,
  token: string,
): Caller | undefined {
  const caller = tokens.find(token)
  if (caller) return caller
  const client = clientOf(request)
  const { count, tooMany, retryAfterSeconds } = failures.add(client)
  const route = request.routeOptions.url ?? '(unknown)'
  if (!tooMany) {
    request.log.warn({ client, route, count }, 'wrong token')
    return undefined
  }
  throw new AppError('TOO_MANY_REQUESTS', 'too many wrong tokens came from this address', {
    hint: 'a right one is answered at once; --max-failed-tokens sets how many wrong ones a minute are looked at',
    retryAfterSeconds,
  })
}

export function wrongToken(): AppError {
  return new AppError('UNAUTHORIZED', 'this token is none of this server', { hint: HOW })
}

function credentialOf(request: FastifyRequest): { scheme: 'bearer' | 'basic' | 'path'; token: string } | undefined {
  const header = request.headers.authorization
  const match = header === undefined ? undefined : /^(bearer|basic) +(\S+) *$/i.exec(header)
  if (match) {
    if (match[1]!.toLowerCase() === 'bearer') return { scheme: 'bearer', token: match[2]! }
    const pair = Buffer.from(match[2]!, 'base64').toString('utf8')
    const colon = pair.indexOf(':')
    return { scheme: 'basic', token: pair.slice(colon + 1) }
  }
  const inPath = tokenOfPath.get(request.raw)
  return inPath === undefined ? undefined : { scheme: 'path', token: inPath }
}

function unescaped(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
