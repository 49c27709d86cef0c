/** The OpenAPI document, generated from the routes, and Swagger UI at /docs. Must be registered before the routes. */
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { jsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod'
import { completeDocument, type OpenApiDocument, offerModels } from '../openapi-document.js'
import type { OpenApiExtra } from '../openapi-upload.js'

const TAGS = [
  { name: 'models', description: 'What this server can run' },
  { name: 'inference', description: 'An image in, a label map or other result out' },
  { name: 'polygons', description: 'Contours from masks and back' },
  { name: 'session', description: 'Upload an image once and use it in many requests' },
  { name: 'requests', description: 'Progress, cancelling and asynchronous results' },
  { name: 'monailabel', description: "MONAI Label's protocol, for 3D Slicer's MONAILabel module, OHIF v3 and XNAT" },
  { name: 'admin', description: 'Load, change and remove models' },
  { name: 'server', description: 'Health, log, version' },
]

const LOGO =
  '<svg xmlns="http://www.w3.org/2000/svg" width="120" height="40"><text x="0" y="29" fill="#fff" ' +
  'font-family="system-ui, sans-serif" font-size="26" font-weight="600">Aidant</text></svg>'

/** Swagger UI writes style attributes into the page; results are shown and downloaded from blobs. Nothing leaves the origin. */
const POLICY = {
  'default-src': ["'self'"],
  'base-uri': ["'self'"],
  'frame-ancestors': ["'self'"],
  'img-src': ["'self'", 'data:', 'blob:'],
  'object-src': ["'none'"],
  'style-src': ["'self'", "'unsafe-inline'"],
}

export interface DocsOptions {
  readonly version: string
  /** The models there are when the document is served. */
  readonly models: () => readonly { readonly name: string; readonly type: string }[]
}

export const docs = fp(
  async (app: FastifyInstance, { version, models }: DocsOptions) => {
    const extras = new Map<string, OpenApiExtra>()
    const open = new Set<string>()
    app.addHook('onRoute', ({ method, url, config }) => {
      const extra = (config as { openapi?: OpenApiExtra } | undefined)?.openapi
      const path = url.replace(/:([^/]+)/g, '{$1}')
      for (const verb of Array.isArray(method) ? method : [method]) {
        if (extra !== undefined) extras.set(`${verb.toLowerCase()} ${path}`, extra)
        if (config?.open) open.add(`${verb.toLowerCase()} ${path}`)
      }
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
        components: {
          securitySchemes: {
            bearer: {
              type: 'http',
              scheme: 'bearer',
              description: 'a token of --api-token-file or --admin-token-file',
            },
            basic: { type: 'http', scheme: 'basic', description: 'any user name, and such a token as the password' },
          },
        },
        // Nothing is wanted unless the operator wants it.
        security: [{}, { bearer: [] }, { basic: [] }],
      },
      transform: jsonSchemaTransform,
      transformObject: (source) => {
        const document = jsonSchemaTransformObject(source)
        completeDocument(document as OpenApiDocument, extras, open)
        return document
      },
    })
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: POLICY,
      transformSpecification: (document) => {
        offerModels(document as OpenApiDocument, extras, models())
        return document
      },
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
