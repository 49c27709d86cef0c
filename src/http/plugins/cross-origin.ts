/**
 * Which web pages may call the API. The annotation clients in browsers (OHIF, XNAT) live on origins of their own, so any
 * page may by default; but never with credentials, and /admin and /logs only answer pages whose origin the operator has
 * named, and the server's own.
 */
import cors from '@fastify/cors'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../../errors.js'
import { type IsGuarded, isAdminPath } from '../admin-paths.js'

const EXPOSED = ['server-timing', 'x-request-id', 'x-aidant-device', 'location', 'retry-after', 'content-disposition']

/** What changes nothing. A page can send these without leave, and cannot read the reply without it. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

export interface CrossOriginOptions {
  readonly origins: readonly string[]
  /** Routes for named origins only; by default the operator's. */
  readonly isGuarded?: IsGuarded
}

/** Whether a request may use what is guarded: it comes from no page, from one of ours, or from one that `origins` names. */
export function mayUseGuarded({ headers, host }: FastifyRequest, origins: readonly string[]): boolean {
  const { origin } = headers
  return origin === undefined || namesOf(origins).has(origin.toLowerCase()) || isOwn(origin, host)
}

const namesOf = (origins: readonly string[]) =>
  new Set(origins.map((origin) => origin.replace(/\/$/, '').toLowerCase()))

export const crossOrigin = fp(
  async (app: FastifyInstance, { origins, isGuarded = isAdminPath }: CrossOriginOptions) => {
    const named = namesOf(origins)
    const any = named.has('*')

    // A form or script of another page can send a POST without asking first, so the origin of each is looked at.
    app.addHook('onRequest', async (request) => {
      if (mayUseGuarded(request, origins)) return
      // The route that was found, since a path can be spelled in many ways.
      const path = request.routeOptions.url ?? request.url
      const guarded = isGuarded(path)
      if (guarded ? request.method === 'OPTIONS' : any || SAFE_METHODS.has(request.method)) return
      throw new AppError(
        'FORBIDDEN',
        `pages of this origin may not call ${isAdminPath(path) ? 'the admin API' : guarded ? 'the datastore' : 'this server'}`,
        {
          hint: 'the operator of the server lists the origins that may with --cors-origins',
        },
      )
    })
    if (origins.includes('none') || origins.length === 0) return
    await app.register(cors, {
      delegator: (request, done) => {
        const { origin } = request.headers
        const open = any && !isGuarded(request.url)
        const allowed = origin !== undefined && (named.has(origin.toLowerCase()) || open)
        done(null, {
          origin: allowed ? (open ? '*' : origin) : false,
          methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
          exposedHeaders: EXPOSED,
          maxAge: 600,
          strictPreflight: false,
        })
      },
    })
  },
  { name: 'cross-origin' },
)

/** Whether the page came from this server, by the name that this request was sent to as well. */
function isOwn(origin: string, host: string): boolean {
  return host !== '' && /^https?:\/\/(.*)$/i.exec(origin)?.[1]?.toLowerCase() === host.toLowerCase()
}
