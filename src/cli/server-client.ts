/** The HTTP API as the command line uses it. */
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { Readable } from 'node:stream'

/** What a server answered instead of what was asked for, in its own words. */
export class ServerError extends Error {
  readonly hint: string | undefined

  constructor(message: string, hint?: string) {
    super(message)
    this.name = 'ServerError'
    this.hint = hint
  }
}

export interface FilePart {
  readonly name: string
  readonly path: string
}

export class ServerClient {
  readonly #base: string

  constructor(base: string) {
    this.#base = base.replace(/\/+$/, '')
  }

  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    return this.#send(path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
  }

  /** Sends files as a multipart body, from disk, with its length known beforehand. */
  async upload<T>(path: string, parts: readonly FilePart[]): Promise<T> {
    const boundary = randomUUID()
    const heads = parts.map(
      ({ name, path: file }) =>
        `--${boundary}\r\nContent-Disposition: form-data; name="${name}"; filename="${quoted(basename(file))}"\r\n` +
        'Content-Type: application/octet-stream\r\n\r\n',
    )
    const tail = `--${boundary}--\r\n`
    async function* body() {
      for (const [i, part] of parts.entries()) {
        yield Buffer.from(heads[i]!)
        yield* createReadStream(part.path)
        yield Buffer.from('\r\n')
      }
      yield Buffer.from(tail)
    }
    const sizes = await Promise.all(parts.map(async (part) => (await stat(part.path)).size + 2))
    const length = [...heads, tail].reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    return this.#send(path, {
      method: 'PUT',
      body: Readable.toWeb(Readable.from(body())) as ReadableStream,
      headers: {
        'content-type': `multipart/form-data; boundary=${boundary}`,
        'content-length': String(sizes.reduce((sum, size) => sum + size, length)),
      },
      duplex: 'half',
    } as RequestInit)
  }

  async #send<T>(path: string, init: RequestInit): Promise<T> {
    let reply: Response
    try {
      reply = await fetch(`${this.#base}${path}`, init)
    } catch (error) {
      const cause = error instanceof Error ? (error.cause as NodeJS.ErrnoException | undefined) : undefined
      throw new ServerError(
        `no server answers at ${this.#base} (${cause?.code ?? 'fetch failed'})`,
        'start one with aidant serve, or name it with --server URL or AIDANT_SERVER',
      )
    }
    const text = await reply.text()
    const json = parse(text)
    if (reply.ok) return json as T
    const said = json as { error?: { message?: string[] }; hint?: string } | undefined
    throw new ServerError(said?.error?.message?.join('; ') ?? `${reply.status} ${reply.statusText}`, said?.hint)
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
