/** What the server says of itself to everybody: GET /, /health. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { SendPage } from './page.js'

export interface ServerRouteOptions {
  readonly version: string
  /** Undefined when every wanted model can answer now; else why not. */
  readonly readiness: () => string | undefined
  /** Sends the page that browsers get at /. */
  readonly sendPage: SendPage
}

const ServerInfo = z
  .object({
    name: z.literal('aidant'),
    version: z.string(),
    protocol: z.string().meta({ description: 'the AIAA protocol version spoken' }),
    node: z.string(),
    docs: z.string(),
    models: z.string(),
  })
  .meta({ id: 'ServerInfo' })

const Health = z.object({ status: z.enum(['ok', 'unavailable']), reason: z.string().optional() }).meta({ id: 'Health' })

export const serverRoutes: FastifyPluginAsyncZod<ServerRouteOptions> = async (app, options) => {
  const { version, readiness, sendPage } = options

  app.get(
    '/',
    {
      schema: {
        operationId: 'getServer',
        tags: ['server'],
        summary: 'Name and versions; a page for browsers',
        response: { 200: ServerInfo },
      },
    },
    async (request, reply) => {
      reply.header('vary', 'accept')
      if ((request.headers.accept ?? '').includes('text/html')) return sendPage(reply)
      return {
        name: 'aidant' as const,
        version,
        protocol: 'AIAA 3.1',
        node: process.version,
        docs: 'docs',
        models: 'v1/models',
      }
    },
  )

  const live = { status: 'ok' as const }
  for (const { url, operationId } of [
    { url: '/health', operationId: 'getHealth' },
    { url: '/health/live', operationId: 'getLive' },
  ])
    app.get(
      url,
      {
        schema: { operationId, tags: ['server'], summary: 'Is the process alive', response: { 200: Health } },
        config: { open: true },
      },
      async () => live,
    )

  app.get(
    '/health/ready',
    {
      schema: {
        operationId: 'getReady',
        tags: ['server'],
        summary: 'Can every wanted model answer now',
        response: { 200: Health, 503: Health },
      },
      config: { open: true },
    },
    async (_request, reply) => {
      const reason = readiness()
      return reason === undefined ? live : reply.code(503).send({ status: 'unavailable', reason })
    },
  )
}
