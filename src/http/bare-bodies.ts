/** Uploads that are not multipart: JSON is the params, anything else is the image itself. */
import type { FastifyInstance } from 'fastify'

/**
 * Replaces the body parsers of `app`'s scope. JSON arrives as its text, also under curl's default content type
 * (`curl -d @data.json`, as the specification prints it); every other body as a stream.
 */
export function acceptBareBodies(app: FastifyInstance, maxParamsBytes: number): void {
  app.removeContentTypeParser(['application/json', 'text/plain'])
  const types = ['application/json', 'application/x-www-form-urlencoded', 'text/plain']
  app.addContentTypeParser(types, { parseAs: 'string', bodyLimit: maxParamsBytes }, (request, body, done) => {
    const isForm = request.headers['content-type']?.startsWith('application/x-www-form-urlencoded')
    const text = body.toString()
    done(null, isForm && !text.trimStart().startsWith('{') ? (new URLSearchParams(text).get('params') ?? text) : text)
  })
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
}
