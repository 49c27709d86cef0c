/** One line a request, when its response has ended or its client has gone: route, status, who, time. Never the query string. */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { clientOf } from '../client-address.js'

export const requestLog = fp(
  async (app: FastifyInstance) => {
    app.addHook('onRequest', async (request, reply) => {
      const started = performance.now()
      reply.raw.once('close', () => {
        request.log.info(
          {
            method: request.method,
            // The pattern, not the path: a session id is a secret and an unknown path may hold anything.
            route: request.routeOptions.url ?? '(unknown)',
            status: reply.raw.headersSent ? reply.raw.statusCode : 499,
            client: clientOf(request),
            // As the operator's file names the token.
            ...(request.caller ? { caller: request.caller.name } : {}),
            ms: Math.round(performance.now() - started),
            ...(reply.raw.writableFinished ? {} : { hungUp: true }),
          },
          'request',
        )
      })
    })
  },
  { name: 'request-log' },
)
