/**
 * Which web pages may call the API. The annotation clients in browsers (OHIF, XNAT) live on origins of their own, so any
 * page may by default; but never with credentials, and /admin only answers pages whose origin the operator has named.
 */
import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../../errors.js'

const EXPOSED = ['server-timing', 'x-request-id', 'x-aidant-device', 'location', 'retry-after', 'content-disposition']

export const crossOrigin = fp(
  async (app: FastifyInstance, { origins }: { readonly origins: readonly string[] }) => {
    const named = new Set(origins.filter((origin) => origin !== '*').map((origin) => origin.replace(/\/$/, '')))
    const any = origins.includes('*')

    // A form or script of another page can send a POST without asking first, so for /admin its origin is looked at.
    app.addHook('onRequest', async (request) => {
      const { origin, host } = request.headers
      // The route that was found, since a path can be spelled in many ways.
      const path = request.routeOptions.url ?? request.url
      if (origin === undefined || !isAdmin(path) || named.has(origin)) return
      if (/^https?:\/\/(.*)$/.exec(origin)?.[1] === host) return
      throw new AppError('FORBIDDEN', 'pages of this origin may not call the admin API', {
        hint: 'the operator of the server lists the origins that may with --cors-origins',
      })
    })
    if (origins.includes('none') || origins.length === 0) return
    await app.register(cors, {
      delegator: (request, done) => {
        const { origin } = request.headers
        const open = any && !isAdmin(request.url)
        const allowed = origin !== undefined && (named.has(origin) || open)
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

function isAdmin(url: string): boolean {
  return /^\/admin(\/|$|\?)/i.test(url)
}
