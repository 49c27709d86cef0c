/** Requests of benches that send much. */
import { Agent, request } from 'node:http'
import { buffer } from 'node:stream/consumers'
import type { form } from '../test/helpers/multipart.js'

const agent = new Agent({ keepAlive: true })

/**
 * Sends a multipart body from memory and gives the reply's bytes; rejects with them unless it is a 200. By `node:http`: `fetch`
 * with FormData takes about as long to send 52 MB as the server does for all else.
 */
export function send(method: string, url: string, { payload, headers }: ReturnType<typeof form>): Promise<Buffer> {
  const all = { ...headers, 'content-length': payload.length }
  return new Promise((resolve, reject) => {
    request(url, { method, agent, headers: all }, (reply) => {
      buffer(reply).then((bytes) => (reply.statusCode === 200 ? resolve(bytes) : reject(new Error(`${bytes}`))), reject)
    })
      .on('error', reject)
      .end(payload)
  })
}
