/** The end of a response, seen on the response itself: Node closes the request object when its body has been read. */
import type { FastifyReply } from 'fastify'

/**
 * Resolves when the response has left (true), or its client has gone before that (false). One listener for either: what
 * node:stream's `finished` puts there is, with all others, more than an emitter takes without a word.
 */
export function whenSent({ raw }: FastifyReply): Promise<boolean> {
  if (raw.closed || raw.destroyed) return Promise.resolve(raw.writableFinished)
  return new Promise((resolve) => {
    raw.once('finish', () => resolve(true))
    raw.once('close', () => resolve(false))
  })
}
