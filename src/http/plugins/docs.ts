/** The OpenAPI document, generated from the routes, and Swagger UI at /docs. Must be registered before the routes. */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod'
import type { OpenApiExtra } from '../openapi-upload.js'

const TAGS = [
  { name: 'models', description: 'What this server can run' },
  { name: 'inference', description: 'An image in, a label map or other result out' },
  { name: 'polygons', description: 'Contours from masks and back' },
  { name: 'session', description: 'Upload an image once and use it in many requests' },
  { name: 'requests', description: 'Progress, cancelling and asynchronous results' },
  { name: 'admin', description: 'Load, change and remove models' },
  { name: 'server', description: 'Health, log, version' },
]

export const docs = fp(
  async (app: FastifyInstance, { version }: { readonly version: string }) => {
    const extras = new Map<string, OpenApiExtra>()
    app.addHook('onRoute', ({ method, url, config }) => {
      const extra = (config as { openapi?: OpenApiExtra } | undefined)?.openapi
      if (extra === undefined) return
      const path = url.replace(/:([^/]+)/g, '{$1}')
      for (const verb of Array.isArray(method) ? method : [method]) extras.set(`${verb.toLowerCase()} ${path}`, extra)
    })
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Aidant',
          description:
            "AI-assisted annotation of medical images; speaks the REST protocol of NVIDIA Clara Train 3.1's AIAA server.",
          version,
          license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        },
        servers: [{ url: '/', description: 'this server' }],
        tags: TAGS,
      },
      transform: jsonSchemaTransform,
      transformObject: (document) => addExtras(jsonSchemaTransformObject(document), extras),
    })
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      // Hospitals serve plain HTTP inside; the page's own requests must not be turned into HTTPS.
      transformStaticCSP: (header) => header.replace(/\s*upgrade-insecure-requests;?/, ''),
      uiConfig: { docExpansion: 'list', tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null },
    })
  },
  { name: 'docs' },
)

type OpenApiObject = ReturnType<typeof jsonSchemaTransformObject>

/** What zod cannot say of a route (multipart bodies, replies that are files), laid over what it did say. */
function addExtras(document: OpenApiObject, extras: ReadonlyMap<string, OpenApiExtra>): OpenApiObject {
  const paths = (document as { paths?: Record<string, Record<string, Record<string, unknown>>> }).paths ?? {}
  for (const [path, operations] of Object.entries(paths)) {
    for (const [verb, operation] of Object.entries(operations)) {
      const extra = extras.get(`${verb} ${path}`)
      if (extra === undefined) continue
      if (extra.requestBody !== undefined) operation.requestBody = extra.requestBody
      operation.responses = { ...extra.responses, ...(operation.responses as object) }
      for (const [status, response] of Object.entries(extra.responses ?? {}))
        (operation.responses as Record<string, unknown>)[status] = response
    }
  }
  return document
}
