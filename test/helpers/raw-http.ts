/** A socket with hand-written bytes, for what only a socket does: old HTTP versions, odd headers, hanging up. */
import { connect, type Socket } from 'node:net'

export interface RawReply {
  readonly statusLine: string
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

/** Sends the bytes and reads until the server closes, or until the reply that Content-Length announces is complete. */
export function sendRaw(port: number, bytes: Buffer | string): Promise<RawReply> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let received = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      const reply = parseReply(received)
      if (reply && reply.body.length >= Number(reply.headers.get('content-length') ?? Infinity)) {
        socket.destroy()
        resolve(reply)
      }
    })
    socket.on('end', () => {
      const reply = parseReply(received)
      if (reply) resolve(reply)
      else reject(new Error('the server closed without a reply'))
    })
    socket.on('error', reject)
    socket.write(bytes)
  })
}

/** Opens a connection, sends the bytes and leaves it open. */
export function openRaw(port: number, bytes: Buffer | string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.off('error', reject)
      socket.on('error', () => {})
      socket.write(bytes, () => resolve(socket))
    })
    socket.on('error', reject)
  })
}

function parseReply(bytes: Buffer): RawReply | undefined {
  let start = 0
  for (;;) {
    const gap = bytes.indexOf('\r\n\r\n', start)
    if (gap < 0) return undefined
    const [statusLine, ...lines] = bytes.toString('latin1', start, gap).split('\r\n')
    if (/^HTTP\/1\.1 100 /.test(statusLine!)) {
      start = gap + 4
      continue
    }
    const headers = lines.map((line): [string, string] => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
    })
    return { statusLine: statusLine!, headers: new Map(headers), body: bytes.subarray(gap + 4) }
  }
}
