/**
 * Reads a refused upload to its end, up to a bound, before the refusal is sent. A client that is still writing when its
 * connection closes sees a broken pipe instead of the reason (NVIDIA's C++ client does).
 */
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

const MOST_BYTES = 256 * 1024 * 1024
const MOST_MS = 10_000

export const drainUpload = fp(
  async (app: FastifyInstance) => {
    app.addHook('onSend', async (request, reply) => {
      if (reply.statusCode >= 400 && !request.raw.complete && !request.raw.destroyed) {
        const drained = await drain(request.raw)
        if (!drained) reply.header('connection', 'close')
      }
    })
  },
  { name: 'drain-upload' },
)

/** True when the body has been read to its end. */
function drain(request: IncomingMessage): Promise<boolean> {
  return new Promise((resolve) => {
    let bytes = 0
    const end = (done: boolean) => {
      clearTimeout(timer)
      request.off('data', onData).off('end', onEnd).off('close', onClose).off('error', onClose)
      if (!done) request.pause()
      resolve(done)
    }
    const onData = (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > MOST_BYTES) end(false)
    }
    const onEnd = () => end(true)
    const onClose = () => end(request.complete)
    const timer = setTimeout(() => end(false), MOST_MS)
    request.on('data', onData).on('end', onEnd).on('close', onClose).on('error', onClose)
    request.resume()
  })
}
