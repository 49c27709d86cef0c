/** The one place where a thrown error becomes a status, a reason phrase and a body; and where unknown URLs are answered. */
import type { FastifyError, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../../errors.js'
import { sendError, toAppError } from '../error-reply.js'

export const errorHandler = fp(
  async (app: FastifyInstance) => {
    const methodsOf = collectMethods(app)

    app.setErrorHandler<FastifyError>((error, request, reply) => {
      const known = toAppError(error)
      if (known.statusCode >= 500) request.log.error({ err: error, code: known.code }, 'request failed')
      else request.log.info({ code: known.code, status: known.statusCode }, 'request refused')
      return sendError(known, request, reply)
    })

    app.setNotFoundHandler((request, reply) => {
      const path = request.url.split('?', 1)[0]!
      const allowed = methodsOf(path)
      if (allowed.length > 0) {
        reply.header('allow', allowed.join(', '))
        const message = `${request.method} is not possible here; ${allowed.join(', ')} is`
        return sendError(new AppError('METHOD_NOT_ALLOWED', message), request, reply)
      }
      const base = `${request.protocol}://${request.host || 'localhost'}`
      const error = new AppError(
        'NOT_FOUND',
        `there is nothing at this URL; the API of this server starts at ${base}/`,
        {
          hint: `see ${base}/docs for every route; a client's server address is ${base} without /v1`,
        },
      )
      return sendError(error, request, reply)
    })
  },
  { name: 'error-handler' },
)

/** Remembers every route as it is registered, so that a wrong method can be told from an unknown URL. */
function collectMethods(app: FastifyInstance): (path: string) => string[] {
  const routes: { readonly methods: readonly string[]; readonly pattern: RegExp }[] = []
  app.addHook('onRoute', ({ method, url }) => {
    if (url.includes('*')) return
    const segments = url
      .split('/')
      .map((part) => (part.startsWith(':') ? '[^/]+' : part.replace(/[.+^$()|[\]\\]/g, '\\$&')))
    const methods = Array.isArray(method) ? method : [method]
    routes.push({ methods, pattern: new RegExp(`^${segments.join('/')}/?$`) })
  })
  return (path) => {
    const matching = routes.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => methods)
    return [...new Set(matching)].filter((method) => method !== 'OPTIONS').sort()
  }
}
