/** A file behind a URL: `{"http": {...}}`, the useful part of python-requests' options. */
import { createWriteStream } from 'node:fs'
import { request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib'
import { z } from 'zod'
import { AppError, machineFault } from '../errors.js'
import { untilAborted } from '../util/until-aborted.js'
import type { FetchContext, Fetched } from './fetch-context.js'

const Text = z.string().max(8192)
const Scalar = z.union([Text, z.number(), z.boolean()])
const Seconds = z.number().positive().max(86_400)

export const HttpSource = z.strictObject({
  url: z.string().max(8192),
  /** Added to the URL's query; a list repeats its key. */
  params: z.record(z.string(), z.union([Scalar, z.array(Scalar), z.null()])).optional(),
  method: z.string().max(10).default('GET'),
  headers: z.record(z.string().max(256), Scalar).optional(),
  /** HTTP basic authentication. */
  auth: z.union([z.tuple([Text, Text]), z.strictObject({ username: Text, password: Text })]).nullish(),
  /** A form's fields, or the body as text. */
  data: z.union([z.record(z.string(), Scalar), z.string().max(1_000_000)]).nullish(),
  json: z.unknown().optional(),
  /** Seconds of silence after which the server is given up; python-requests' pair (connect, read) is understood. */
  timeout: z.union([Seconds, z.tuple([Seconds, Seconds])]).nullish(),
  /** False: any TLS certificate will do. */
  verify: z.boolean().default(true),
  allow_redirects: z.boolean().default(true),
})
export type HttpSource = z.infer<typeof HttpSource>

/** A body that is read from a file while it is sent, once for every hop. */
export interface FileBody {
  readonly bytes: number
  open(): Readable
}

export interface HttpRequest {
  readonly method: 'GET' | 'POST'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string | FileBody | undefined
  readonly verify: boolean
  readonly redirects: boolean
  readonly silenceMs: number
}

const MAX_REDIRECTS = 5
/** Ours to set: they frame the message or name the connection. */
const OWN_HEADERS: ReadonlySet<string> = new Set([
  ...['host', 'connection', 'content-length', 'transfer-encoding', 'upgrade', 'te', 'trailer', 'keep-alive', 'expect'],
  ...['accept-encoding', 'proxy-connection', 'proxy-authorization', 'proxy-authenticate', 'forwarded', 'via'],
])
/** What may follow a redirect to another host: nothing that could be a credential. */
const TRAVELLING_HEADERS: ReadonlySet<string> = new Set(['accept', 'accept-language', 'user-agent'])

/** Fetches one file, of any type, into the context's folder. */
export async function fetchHttp(source: HttpSource, context: FetchContext): Promise<Fetched> {
  const response = await exchange(toRequest(source, context), context)
  expectSuccess(response)
  const path = join(context.folder, 'fetched')
  await saveCapped(decoded(response), path, context)
  return { paths: [path], received: 1, notes: [] }
}

export function toRequest(source: HttpSource, { limits }: FetchContext): HttpRequest {
  const method = source.method.toUpperCase()
  if (method !== 'GET' && method !== 'POST') throw badParams(`http.method may be GET or POST, not ${source.method}`)
  const url = parseUrl(source.url, undefined)
  for (const [key, value] of Object.entries(source.params ?? {})) {
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== null) url.searchParams.append(key, String(one))
  }
  const headers: Record<string, string> = {}
  for (const [key, value] of Object.entries(source.headers ?? {})) {
    const name = key.toLowerCase()
    if (
      OWN_HEADERS.has(name) ||
      !/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name) ||
      /[^\t\x20-\x7e\x80-\xff]/.test(String(value))
    )
      throw badParams(`http.headers may not set '${name.slice(0, 40)}'`)
    headers[name] = String(value)
  }
  const login = source.auth ?? loginOf(url)
  if (login) {
    const [user, password] = Array.isArray(login) ? login : [login.username, login.password]
    headers.authorization = `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`
  }
  url.username = ''
  url.password = ''
  const body = bodyOf(source, headers)
  if (body !== undefined && method === 'GET') throw badParams('http.data and http.json need method POST')
  const silence = Array.isArray(source.timeout) ? Math.max(...source.timeout) : source.timeout
  const silenceMs = Math.min(silence ?? limits.silenceSeconds, limits.silenceSeconds) * 1000
  return { method, url, headers, body, verify: source.verify, redirects: source.allow_redirects, silenceMs }
}

function loginOf({ username, password }: URL): [string, string] | undefined {
  if (username === '' && password === '') return undefined
  try {
    return [decodeURIComponent(username), decodeURIComponent(password)]
  } catch {
    throw badParams('http.url: the login in it has a % that no escape follows; write %25, or use http.auth')
  }
}

function bodyOf(source: HttpSource, headers: Record<string, string>): string | undefined {
  if (source.json !== undefined && source.json !== null) {
    headers['content-type'] ??= 'application/json'
    return JSON.stringify(source.json)
  }
  if (source.data === undefined || source.data === null) return undefined
  if (typeof source.data === 'string') return source.data
  headers['content-type'] ??= 'application/x-www-form-urlencoded'
  return new URLSearchParams(Object.entries(source.data).map(([key, value]) => [key, String(value)])).toString()
}

function parseUrl(text: string, base: URL | undefined): URL {
  let url: URL
  try {
    url = new URL(text, base)
  } catch {
    throw base ? failed('the server redirects to something that is no URL') : badParams('http.url is not a URL')
  }
  return url
}

/**
 * One request, with its redirects. Every hop's host is admitted by the policy and connected to at the address that was
 * checked. Resolves once the headers of the last reply are here; its status and body are the caller's to read. Throws FETCH_FORBIDDEN,
 * FETCH_FAILED, BAD_PARAMS.
 */
export async function exchange(request: HttpRequest, context: FetchContext): Promise<IncomingMessage> {
  let hop = request
  for (let redirects = 0; ; redirects++) {
    const response = await send(hop, context)
    const status = response.statusCode ?? 0
    const location = response.headers.location
    const moved = [301, 302, 303, 307, 308].includes(status) && location !== undefined
    if (!moved || !request.redirects) return response
    response.destroy()
    if (redirects >= MAX_REDIRECTS) throw failed(`the server redirects more than ${MAX_REDIRECTS} times`)
    hop = follow(hop, parseUrl(location, hop.url), status)
  }
}

export function expectSuccess(response: IncomingMessage): void {
  const status = response.statusCode ?? 0
  if (status >= 200 && status < 300) return
  response.destroy()
  throw failed(`the server to fetch from answered ${status}`)
}

function follow(hop: HttpRequest, url: URL, status: number): HttpRequest {
  url.username = ''
  url.password = ''
  const sameHost = url.origin === hop.url.origin
  const keepsBody = status === 307 || status === 308
  // A body may hold a password as well as a header may.
  if (keepsBody && !sameHost && hop.body !== undefined)
    throw failed('the server redirects a POST to another host, which is not followed')
  const headers = Object.fromEntries(
    Object.entries(hop.headers).filter(
      ([name]) => (sameHost || TRAVELLING_HEADERS.has(name)) && (keepsBody || name !== 'content-type'),
    ),
  )
  return { ...hop, url, headers, ...(keepsBody ? {} : { method: 'GET', body: undefined }) }
}

async function send(hop: HttpRequest, { policy, signal }: FetchContext): Promise<IncomingMessage> {
  const { url, method, headers, body, verify, silenceMs } = hop
  const secure = url.protocol === 'https:'
  if (policy.enabled && !secure && url.protocol !== 'http:')
    throw new AppError('FETCH_FORBIDDEN', 'only http and https URLs are fetched')
  const port = url.port === '' ? (secure ? 443 : 80) : Number(url.port)
  const endpoint = await untilAborted(policy.admit(url.hostname || 'localhost', port), signal)
  const options: RequestOptions & { rejectUnauthorized: boolean; servername?: string } = {
    host: endpoint.address,
    family: endpoint.family,
    port,
    method,
    path: `${url.pathname}${url.search}`,
    headers: {
      'user-agent': 'aidant',
      accept: '*/*',
      ...headers,
      host: url.host,
      'accept-encoding': 'identity',
      ...(body === undefined
        ? {}
        : { 'content-length': typeof body === 'string' ? Buffer.byteLength(body) : body.bytes }),
    },
    agent: false,
    rejectUnauthorized: verify,
    ...(isIP(endpoint.host) ? {} : { servername: endpoint.host }),
    signal,
  }
  return new Promise((resolve, reject) => {
    const request = (secure ? httpsRequest : httpRequest)(options, resolve)
    const silent = () => request.destroy(failed(`${endpoint.host} was silent for ${silenceMs / 1000} s`))
    request.setTimeout(silenceMs, silent)
    request.on('error', (error) => reject(connectionFault(error, endpoint.host, signal)))
    if (body === undefined || typeof body === 'string') request.end(body)
    else pipeline(body.open(), request).catch((error: unknown) => reject(connectionFault(error, endpoint.host, signal)))
  })
}

/** What a connection died of, in words a client may read. */
export function connectionFault(error: unknown, host: string, signal: AbortSignal): unknown {
  if (error instanceof AppError) return error
  if (signal.aborted) return signal.reason
  const machine = machineFault(error)
  if (machine) return machine
  const code = (error as NodeJS.ErrnoException).code ?? ''
  if (code === 'ECONNREFUSED') return failed(`${host} refused the connection`, error)
  if (/CERT|TLS|SSL|SELF_SIGNED|ALTNAME|UNABLE_TO/.test(code))
    return failed(`${host}: the TLS certificate or handshake failed`, error)
  if (['ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH'].includes(code)) return failed(`${host} cannot be reached`, error)
  return failed(`the connection to ${host} broke off`, error)
}

/** The body without its content coding: asked for none, some servers code all the same. */
export function decoded(response: IncomingMessage): Readable {
  const coding = (response.headers['content-encoding'] ?? 'identity').toLowerCase()
  if (coding === 'identity') return response
  const decoder =
    coding === 'gzip' || coding === 'x-gzip'
      ? createGunzip()
      : coding === 'deflate'
        ? createInflate()
        : coding === 'br'
          ? createBrotliDecompress()
          : undefined
  if (!decoder) throw failed(`the server sent content coding ${coding.slice(0, 20)}, which is not understood`)
  response.on('error', (error) => decoder.destroy(error))
  return response.pipe(decoder)
}

/** Streams to a new file, within the context's byte cap, which all files of one fetch share. */
export async function saveCapped(body: Readable, path: string, context: FetchContext): Promise<void> {
  const { budget, signal } = context
  const counter = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      try {
        budget.take(chunk.length)
        done(null, chunk)
      } catch (error) {
        done(error as Error)
      }
    },
  })
  try {
    await pipeline(body, counter, createWriteStream(path, { flags: 'wx' }), { signal })
  } catch (error) {
    throw connectionFault(error, 'the server', signal)
  }
}

function failed(message: string, cause?: unknown): AppError {
  return new AppError('FETCH_FAILED', message, { cause })
}

function badParams(message: string): AppError {
  return new AppError('BAD_PARAMS', message)
}
