/** The HTTP API as the command line uses it, on a network or on a socket of this machine that no port shows. */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import http, { type IncomingMessage, type RequestOptions } from 'node:http'
import https from 'node:https'
import { basename } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { rootCertificates } from 'node:tls'

/** What a server answered instead of what was asked for, in its own words. */
export class ServerError extends Error {
  constructor(
    message: string,
    readonly hint?: string,
    /** HTTP status; absent where no server answered. */
    readonly status?: number,
  ) {
    super(message)
    this.name = 'ServerError'
  }
}

export interface FilePart {
  readonly name: string
  readonly path: string
}

/** Where a server listens: the path of a socket, or a URL. */
export type ServerAddress = string | { readonly socketPath: string }

/** Who asks, and whose certificate is believed; both only matter where the server is asked over a network. */
export interface Access {
  readonly token?: string | undefined
  /** PEM; beside the certificates that Node knows. */
  readonly ca?: Buffer | undefined
  readonly insecure?: boolean | undefined
}

/** What is sent: JSON, or files from disk behind text fields. */
interface Body {
  readonly headers: Readonly<Record<string, string>>
  readonly chunks: AsyncIterable<Buffer> | Iterable<Buffer>
}

/** What Node calls certificates that are signed by nobody known, for another name, or too old. */
const CERTIFICATE_FAULT = /CERT|^UNABLE_TO_|^ERR_TLS_/

export class ServerClient {
  readonly #address: ServerAddress
  readonly #access: Access

  constructor(address: ServerAddress, access: Access = {}) {
    this.#access = access
    this.#address = typeof address === 'string' ? address.replace(/\/+$/, '') : address
  }

  /** Asks for JSON. Rejects ServerError with what the server said. */
  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    return readJson(await this.#send(method, path, body === undefined ? undefined : jsonBody(body)))
  }

  /** Sends files as a multipart body, from disk, with its length known beforehand. */
  async upload<T>(path: string, parts: readonly FilePart[], fields: Readonly<Record<string, string>> = {}): Promise<T> {
    return readJson(await this.#send('PUT', path, await multipartBody(fields, parts)))
  }

  /** Asks for a file, and gives the reply as it comes. Rejects ServerError with what the server said. */
  async get(path: string): Promise<IncomingMessage> {
    return this.#send('GET', path)
  }

  /** Sends text fields and files, and gives the reply as it comes. Rejects ServerError with what the server said. */
  async post(
    path: string,
    fields: Readonly<Record<string, string>>,
    parts: readonly FilePart[],
    signal?: AbortSignal,
  ): Promise<IncomingMessage> {
    return this.#send('POST', path, await multipartBody(fields, parts), signal)
  }

  async #send(method: string, path: string, body?: Body, signal?: AbortSignal): Promise<IncomingMessage> {
    const reply = await this.#exchange(
      { method, path, headers: { ...body?.headers }, ...(signal ? { signal } : {}) },
      body,
    )
    const status = reply.statusCode ?? 0
    if (status >= 200 && status < 300) return reply
    const said = parse(await readText(reply)) as { error?: { message?: string[] }; hint?: string } | undefined
    throw new ServerError(said?.error?.message?.join('; ') ?? `${status} ${reply.statusMessage}`, said?.hint, status)
  }

  #exchange(options: RequestOptions, body: Body | undefined): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const fail = (error: NodeJS.ErrnoException) => reject(options.signal?.aborted ? error : this.#unreachable(error))
      const request = this.#request(options)
      request.once('response', resolve)
      request.on('error', fail)
      if (!body) request.end()
      // A server may refuse before all is sent; its answer then counts, not the pipe that broke.
      else pipeline(Readable.from(body.chunks), request).catch(fail)
    })
  }

  #request(options: RequestOptions): http.ClientRequest {
    const address = this.#address
    if (typeof address !== 'string')
      return http.request({ ...options, ...address, headers: { ...options.headers, host: 'localhost' } })
    if (!URL.canParse(address) || !/^https?:/.test(address))
      throw new ServerError(`'${address}' is no address of a server`, 'as in http://127.0.0.1:5000')
    const url = new URL(address)
    const path = url.pathname.replace(/\/$/, '') + options.path
    const { token, ca, insecure } = this.#access
    const headers = { ...options.headers, ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) }
    if (url.protocol !== 'https:') return http.request(url, { ...options, path, headers })
    const trust = {
      ...(ca === undefined ? {} : { ca: [...rootCertificates, ca] }),
      ...(insecure ? { rejectUnauthorized: false } : {}),
    }
    return https.request(url, { ...options, ...trust, path, headers })
  }

  #unreachable(error: NodeJS.ErrnoException): Error {
    if (error instanceof ServerError) return error
    // Files that are sent are read meanwhile: their errors are not the server's.
    if (error.path !== undefined && error.syscall !== 'connect') return error
    if (CERTIFICATE_FAULT.test(error.code ?? ''))
      return new ServerError(
        `the certificate of the server is not believed (${error.code})`,
        '--ca FILE names the certificate that it is signed with; --insecure believes any',
      )
    const where = typeof this.#address === 'string' ? this.#address : 'its socket'
    return new ServerError(
      `no server answers at ${where} (${error.code ?? error.message})`,
      'start one with aidant serve, or name it with --server URL or AIDANT_SERVER',
    )
  }
}

/** The whole body as text. */
export async function readText(reply: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of reply) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

async function readJson<T>(reply: IncomingMessage): Promise<T> {
  return parse(await readText(reply)) as T
}

function jsonBody(value: unknown): Body {
  const bytes = Buffer.from(JSON.stringify(value))
  return { headers: { 'content-type': 'application/json', 'content-length': String(bytes.length) }, chunks: [bytes] }
}

async function multipartBody(fields: Readonly<Record<string, string>>, parts: readonly FilePart[]): Promise<Body> {
  const boundary = randomUUID()
  const texts = Object.entries(fields).map(
    ([name, value]) => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`,
  )
  const heads = parts.map(
    ({ name, path }) =>
      `--${boundary}\r\nContent-Disposition: form-data; name="${name}"; filename="${quoted(basename(path))}"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n',
  )
  const tail = `--${boundary}--\r\n`
  async function* chunks() {
    yield Buffer.from(texts.join(''))
    for (const [i, part] of parts.entries()) {
      yield Buffer.from(heads[i]!)
      yield* createReadStream(part.path)
      yield Buffer.from('\r\n')
    }
    yield Buffer.from(tail)
  }
  const sizes = await Promise.all(parts.map(async (part) => (await stat(part.path)).size + 2))
  const length = [...texts, ...heads, tail].reduce((sum, text) => sum + Buffer.byteLength(text), 0)
  return {
    headers: {
      'content-type': `multipart/form-data; boundary=${boundary}`,
      'content-length': String(sizes.reduce((sum, size) => sum + size, length)),
    },
    chunks: chunks(),
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function quoted(name: string): string {
  return name.replace(/["\r\n]/g, '_')
}
