/**
 * Reads a refused upload to its end, up to a bound, before the refusal is sent. A client that is still writing when its
 * connection closes sees a broken pipe instead of the reason (NVIDIA's C++ client does).
 */
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

const MOST_BYTES = 256 * 1024 * 1024
const MOST_MS = 30_000
/** A client that sends nothing for so long is waiting for our answer. */
const IDLE_MS = 1000

export const drainUpload = fp(
  async (app: FastifyInstance) => {
    app.addHook('onSend', async (request, reply) => {
      if (reply.statusCode >= 400 && !isOver(request.raw)) {
        const drained = await drain(request.raw)
        if (!drained) reply.header('connection', 'close')
      }
    })
  },
  { name: 'drain-upload' },
)

function isOver(request: IncomingMessage): boolean {
  return request.complete || request.readableEnded || request.destroyed
}

/** True when the body has been read to its end. */
function drain(request: IncomingMessage): Promise<boolean> {
  return new Promise((resolve) => {
    let bytes = 0
    const leave = () => {
      clearTimeout(timer)
      clearTimeout(idle)
      request.off('data', onData).off('end', leave).off('close', leave).off('error', leave)
      request.pause()
      resolve(isOver(request))
    }
    const onData = (chunk: Buffer) => {
      idle.refresh()
      bytes += chunk.length
      if (bytes > MOST_BYTES) leave()
    }
    const timer = setTimeout(leave, MOST_MS)
    const idle = setTimeout(leave, IDLE_MS)
    request.on('data', onData).on('end', leave).on('close', leave).on('error', leave)
    request.resume()
  })
}
