/**
 * Which web pages may call the API. The annotation clients in browsers (OHIF, XNAT) live on origins of their own, so any
 * page may by default; but never with credentials, and /admin and /logs only answer pages whose origin the operator has
 * named, and the server's own.
 */
import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../../errors.js'
import { isAdminPath } from '../admin-paths.js'

const EXPOSED = ['server-timing', 'x-request-id', 'x-aidant-device', 'location', 'retry-after', 'content-disposition']

/** What changes nothing. A page can send these without leave, and cannot read the reply without it. */
const SAFE_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

export const crossOrigin = fp(
  async (app: FastifyInstance, { origins }: { readonly origins: readonly string[] }) => {
    const named = new Set(origins.map((origin) => origin.replace(/\/$/, '').toLowerCase()))
    const any = named.has('*')

    // A form or script of another page can send a POST without asking first, so the origin of each is looked at.
    app.addHook('onRequest', async (request) => {
      const { origin, host } = request.headers
      if (origin === undefined || named.has(origin.toLowerCase()) || isOwn(origin, host)) return
      // The route that was found, since a path can be spelled in many ways.
      const admin = isAdminPath(request.routeOptions.url ?? request.url)
      if (admin ? request.method === 'OPTIONS' : any || SAFE_METHODS.has(request.method)) return
      throw new AppError('FORBIDDEN', `pages of this origin may not call ${admin ? 'the admin API' : 'this server'}`, {
        hint: 'the operator of the server lists the origins that may with --cors-origins',
      })
    })
    if (origins.includes('none') || origins.length === 0) return
    await app.register(cors, {
      delegator: (request, done) => {
        const { origin } = request.headers
        const open = any && !isAdminPath(request.url)
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
function isOwn(origin: string, host: string | undefined): boolean {
  return host !== undefined && /^https?:\/\/(.*)$/i.exec(origin)?.[1]?.toLowerCase() === host.toLowerCase()
}
