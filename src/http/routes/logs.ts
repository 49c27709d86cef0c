/** GET /logs: for the operator alone, since it tells what everybody does here. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { LogRing } from '../../observability/log-ring.js'

export const logRoutes: FastifyPluginAsyncZod<{ readonly logs: LogRing }> = async (app, { logs }) => {
  app.get(
    '/logs',
    {
      schema: {
        operationId: 'getLogs',
        tags: ['server'],
        summary: 'The last lines of the log, as text; without patient data',
        querystring: z.object({ lines: z.coerce.number().int().min(1).max(2000).default(100) }),
      },
      config: {
        openapi: {
          responses: { 200: { description: 'log lines', content: { 'text/plain': { schema: { type: 'string' } } } } },
        },
      },
    },
    async ({ query }, reply) => reply.type('text/plain; charset=utf-8').send(`${logs.last(query.lines).join('\n')}\n`),
  )
}
