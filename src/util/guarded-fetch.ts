/**
 * `fetch` for servers that a configuration names: only to hosts that the operator allows, at the address that was checked,
 * within a time, and up to a size. It follows no redirect. Bodies are in memory on both ways.
 */
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { AppError } from '../errors.js'
import type { FetchPolicy } from './fetch-policy.js'
import { untilAborted } from './until-aborted.js'

export interface FetchBounds {
  /** For one call, from looking up the name to the last byte in (`--fetch-deadline`). */
  readonly deadlineMs: number
  /** Bytes of one reply. */
  readonly maxBytes: number
}

/** Rejects FETCH_FORBIDDEN, and FETCH_FAILED when a bound is crossed; with the system's error when nobody answers. */
export function createGuardedFetch(policy: FetchPolicy, bounds: FetchBounds): typeof fetch {
  return async (input, init = {}) => {
    const url = new URL(String(input))
    const secure = url.protocol === 'https:'
    const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port)
    const body = init.body instanceof Blob ? Buffer.from(await init.body.arrayBuffer()) : undefined
    const late = new AppError('FETCH_FAILED', `${url.hostname} did not answer within ${bounds.deadlineMs / 1000} s`, {
      hint: 'the operator of the server can raise this limit with --fetch-deadline',
    })
    const clock = new AbortController()
    const timer = setTimeout(() => clock.abort(late), bounds.deadlineMs)
    try {
      const endpoint = await untilAborted(policy.admit(url.hostname, port), clock.signal)
      const reply = await new Promise<IncomingMessage>((resolve, reject) => {
        const request = (secure ? httpsRequest : httpRequest)(
          {
            host: endpoint.address,
            family: endpoint.family,
            port,
            method: init.method ?? 'GET',
            path: `${url.pathname}${url.search}`,
            headers: {
              ...(init.headers as Record<string, string> | undefined),
              host: url.host,
              'accept-encoding': 'identity',
              'content-length': body?.length ?? 0,
            },
            agent: false,
            ...(isIP(endpoint.host) ? {} : { servername: endpoint.host }),
            signal: clock.signal,
          },
          resolve,
        )
        request.on('error', reject)
        request.end(body)
      })
      const bytes = await readCapped(reply, endpoint.host, bounds.maxBytes)
      return new Response(bytes, { status: reply.statusCode ?? 502, headers: plainHeaders(reply) })
    } catch (error) {
      throw clock.signal.aborted ? late : error
    } finally {
      clearTimeout(timer)
    }
  }
}

async function readCapped(reply: IncomingMessage, host: string, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const tooMuch = () => {
    reply.destroy()
    return new AppError('FETCH_FAILED', `${host} sent more than ${most} bytes`, {
      hint: 'the operator of the server can raise this limit with --max-volume-bytes',
    })
  }
  if (Number(reply.headers['content-length'] ?? 0) > most) throw tooMuch()
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of reply as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > most) throw tooMuch()
    chunks.push(chunk)
  }
  return Uint8Array.from(Buffer.concat(chunks))
}

function plainHeaders(reply: IncomingMessage): [string, string][] {
  return Object.entries(reply.headers).flatMap(([name, value]) =>
    typeof value === 'string' ? [[name, value] as [string, string]] : [],
  )
}
