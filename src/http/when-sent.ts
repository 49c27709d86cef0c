/** The end of a response, seen on the response itself: Node closes the request object when its body has been read. */
import type { FastifyReply } from 'fastify'

/** Resolves when the response has left (true), or its client has gone before that (false). */
export function whenSent({ raw }: FastifyReply): Promise<boolean> {
  return new Promise((resolve) => {
    const ended = () => resolve(raw.writableFinished)
    // One listener: what node:stream's `finished` puts there, with all others, is more than an emitter takes without a word.
    if (raw.closed) ended()
    else raw.once('close', ended)
  })
}
