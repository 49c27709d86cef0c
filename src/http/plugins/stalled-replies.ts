/**
 * Gives up a reply whose client has stopped reading: until it has left, a reply holds its files, and its session or
 * result. Bytes count as read when the system has taken them from us.
 */
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'

export const stalledReplies = fp(
  async (app: FastifyInstance, { seconds }: { readonly seconds: number }) => {
    app.addHook('onSend', async (request, reply) => {
      // Nobody is there to read it, and no 'close' will come to end the timer.
      if (reply.raw.closed || reply.raw.destroyed) return
      const { socket } = request.raw
      let taken = -1
      const timer = setInterval(() => {
        const waiting = socket.writableLength + reply.raw.writableLength
        const before = taken
        taken = socket.bytesWritten - socket.writableLength
        if (waiting === 0 || taken !== before) return
        request.log.warn({ waiting }, 'client does not read its reply: given up')
        reply.raw.destroy()
        socket.destroy()
      }, seconds * 1000)
      timer.unref()
      reply.raw.once('close', () => clearInterval(timer))
    })
  },
  { name: 'stalled-replies' },
)
