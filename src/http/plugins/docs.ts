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

/** What the statuses mean here, for the routes whose schema does not say more. */
const MEANINGS: Readonly<Record<string, string>> = {
  200: 'success',
  202: 'accepted; the work goes on',
  400: 'bad parameters, or an unreadable image; the message names the parameter',
  403: 'this host, page or fetch is not allowed',
  404: 'no such model, session, request or URL',
  405: 'the URL is there, the method is not',
  409: 'another change of this name, or a request of this id, is under way',
  413: 'a limit was crossed; the hint names its flag',
  415: 'a format the server does not read',
  422: 'the model or its config is wrong; the message names the key or tensor',
  440: 'the session has expired or never was',
  499: 'the request was cancelled',
  500: 'a fault of the server; its log has the request id',
  502: 'another server did not deliver',
  503: 'full, shutting down, or the process of the model crashed; Retry-After says when to try again',
  504: 'the deadline has passed',
}

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" width="120" height="40"><text x="0" y="29" fill="#fff" ' +
  'font-family="system-ui, sans-serif" font-size="26" font-weight="600">Aidant</text></svg>'

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
      theme: { title: 'Aidant API' },
      logo: { type: 'image/svg+xml', content: Buffer.from(LOGO), href: '/', target: '_self' },
      uiConfig: {
        docExpansion: 'list',
        deepLinking: true,
        tryItOutEnabled: true,
        displayRequestDuration: true,
        validatorUrl: null,
      },
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
      for (const [status, response] of Object.entries(operation.responses as Record<string, { description?: string }>))
        if (response.description === 'Default Response') response.description = MEANINGS[status] ?? status
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
