/** GET /metrics: for Prometheus. It tells numbers of this server, and the names of its models; nothing of a client's. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import type { Metrics } from '../../observability/metrics.js'

export const metricsRoutes: FastifyPluginAsyncZod<{ readonly metrics: Metrics }> = async (app, { metrics }) => {
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'getMetrics',
        tags: ['server'],
        summary: "Numbers of this server, in Prometheus's text format",
        response: {},
      },
      config: {
        openapi: {
          responses: { 200: { description: 'metrics', content: { 'text/plain': { schema: { type: 'string' } } } } },
        },
      },
    },
    async (_request, reply) => reply.header('content-type', metrics.contentType).send(await metrics.text()),
  )
}
