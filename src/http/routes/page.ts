/**
 * The annotation page: its compiled modules, its style sheet and its samples under /web/, and NiiVue from the installed
 * package. They lie in dist/web, which `npm run build` makes of src/web.
 */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply } from 'fastify'

/** The same folder from src/http/routes and from dist/http/routes. */
const FOLDER = fileURLToPath(new URL('../../../dist/web/', import.meta.url))

const NOT_BUILT = '<!doctype html><title>Aidant</title><p>This page has not been built: run <code>npm run build</code>.'

/** Nothing from elsewhere, no inline script and no inline style. NiiVue makes its fonts and colour bars from data: URLs. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data: blob:",
  "connect-src 'self' data: blob:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'self'",
].join('; ')

/** Sends the page itself, to a browser that asked for /. */
export type SendPage = (reply: FastifyReply) => FastifyReply

export function createSendPage(): SendPage {
  const index = join(FOLDER, 'index.html')
  const page = existsSync(index) ? readFileSync(index, 'utf8') : NOT_BUILT
  return (reply) =>
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', POLICY)
      .serializer(() => page)
      .send({} as never)
}

export async function pageRoutes(app: FastifyInstance): Promise<void> {
  const options = { schema: { hide: true } as object }
  if (!existsSync(FOLDER)) return
  await app.register(fastifyStatic, { root: FOLDER, prefix: '/web/', index: false })
  const niivue = findNiivue()
  app.get('/web/vendor/niivue.js', options, async (_request, reply) => reply.sendFile('index.js', niivue))
  app.get('/favicon.ico', options, async (_request, reply) => reply.sendFile('icon.svg'))
}

/** The folder of NiiVue's bundle. The package names only entries for import, none that could be resolved to a file here. */
function findNiivue(): string {
  const folders = createRequire(import.meta.url).resolve.paths('@niivue/niivue') ?? []
  const found = folders.map((folder) => join(folder, '@niivue/niivue/dist')).find((folder) => existsSync(folder))
  if (found === undefined) throw new Error('the package @niivue/niivue is not installed')
  return found
}
