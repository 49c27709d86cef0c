/**
 * Which web pages may call the API. The annotation clients in browsers (OHIF, XNAT) live on origins of their own, so any
 * page may by default; but never with credentials, and /admin only answers pages whose origin the operator has named.
 */
import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

const EXPOSED = ['server-timing', 'x-request-id', 'x-aidant-device', 'location', 'retry-after', 'content-disposition']

export const crossOrigin = fp(
  async (app: FastifyInstance, { origins }: { readonly origins: readonly string[] }) => {
    if (origins.includes('none') || origins.length === 0) return
    const named = new Set(origins.filter((origin) => origin !== '*').map((origin) => origin.replace(/\/$/, '')))
    const any = origins.includes('*')
    await app.register(cors, {
      delegator: (request, done) => {
        const { origin } = request.headers
        const isAdmin = /^\/admin(\/|$|\?)/.test(request.url)
        const allowed = origin !== undefined && (named.has(origin) || (any && !isAdmin))
        done(null, {
          origin: allowed ? (any && !isAdmin ? '*' : origin) : false,
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
