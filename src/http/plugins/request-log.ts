/** One line a request, and its place in the metrics, when its response has ended or its client has gone: route, status, who, time. Never the query string. */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { ErrorCode } from '../../errors.js'
import type { Metrics } from '../../observability/metrics.js'
import { clientOf } from '../client-address.js'

declare module 'fastify' {
  interface FastifyRequest {
    /** Of the error that it was answered with. */
    errorCode: ErrorCode | undefined
  }
}

/** On one event of a response. */
const MOST_LISTENERS = 20

export interface RequestLogOptions {
  readonly metrics: Pick<Metrics, 'requestEnded'> | undefined
}

export const requestLog = fp(
  async (app: FastifyInstance, { metrics }: RequestLogOptions) => {
    app.decorateRequest('errorCode', undefined)
    app.addHook('onRequest', async (request, reply) => {
      const started = performance.now()
      // The framework, a stream that is sent and our own hooks all wait for its end; more than this would be a leak.
      reply.raw.setMaxListeners(MOST_LISTENERS)
      reply.raw.once('close', () => {
        const { method, errorCode: code } = request
        // The pattern, not the path: a session id is a secret and an unknown path may hold anything.
        const { url: route } = request.routeOptions
        const status = reply.raw.headersSent ? reply.raw.statusCode : 499
        const ms = performance.now() - started
        metrics?.requestEnded({ method, route, status, seconds: ms / 1000, code })
        request.log.info(
          {
            method,
            route: route ?? '(unknown)',
            status,
            client: clientOf(request),
            // As the operator's file names the token.
            ...(request.caller ? { caller: request.caller.name } : {}),
            ms: Math.round(ms),
            ...(reply.raw.writableFinished ? {} : { hungUp: true }),
          },
          'request',
        )
      })
    })
  },
  { name: 'request-log' },
)
