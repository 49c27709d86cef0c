/** The server's public API, as any client may use it. Every failure is an ApiError that says what happened. */
import type { Vec3 } from './geometry.js'
import { parseReply, type ReplyParts } from './multipart.js'

/** What the server, or the way to it, answered instead of a result. `status` 0: no answer at all. */
export class ApiError extends Error {
  readonly status: number
  readonly code: string
  readonly hint: string | undefined
  readonly requestId: string | undefined
  readonly retryAfterSeconds: number | undefined

  constructor(status: number, body: Partial<ErrorBody>, retryAfter: string | null = null) {
    super(
      body.error?.message?.join('; ') ??
        (status === 0 ? 'the server does not answer' : `the server answered ${status}`),
    )
    this.status = status
    this.code = body.code ?? (status === 0 ? 'NO_ANSWER' : 'UNKNOWN')
    this.hint = body.hint
    this.requestId = body.request_id
    this.retryAfterSeconds = retryAfter === null ? undefined : Number(retryAfter)
  }
}

interface ErrorBody {
  readonly error: { readonly message: readonly string[] }
  readonly code: string
  readonly hint?: string
  readonly request_id: string
}

export interface Model {
  readonly name: string
  readonly type: 'segmentation' | 'annotation' | 'classification' | 'deepgrow' | 'others' | 'pipeline'
  readonly labels: readonly string[]
  readonly description: string
  readonly deepgrow?: unknown
  readonly state: 'UNLOADED' | 'LOADING' | 'READY' | 'FAILED'
  readonly reason?: string
  readonly device?: string
  readonly origin: string
  readonly revision: string
  readonly bytes?: number
}

export interface ImageFacts {
  readonly format: string
  readonly size: Vec3
  readonly channels: number
  readonly colours?: 3 | 4
  readonly spacing: Vec3
  readonly dtype: string
  readonly notes?: readonly string[]
}

export interface SessionInfo {
  readonly session_id: string
  readonly expiry: number
  readonly image: ImageFacts
}

export interface RequestState {
  readonly id: string
  readonly state: 'queued' | 'running' | 'done' | 'failed' | 'cancelled'
  readonly queue_place?: number
  readonly stage?: string
  readonly done?: number
  readonly total?: number
  readonly part?: string
  readonly estimate_seconds?: number
  readonly seconds: number
}

export interface Answer extends ReplyParts {
  readonly requestId: string
  readonly device: string | undefined
  /** Milliseconds by stage, as Server-Timing says. */
  readonly timings: Readonly<Record<string, number>>
  /** Milliseconds from sending to the last byte, as this page saw it. */
  readonly elapsed: number
}

export type Task = 'segmentation' | 'dextr3d' | 'deepgrow' | 'inference'

/** Between 0 and 1, or undefined while nobody knows. */
export type Progress = (fraction: number | undefined) => void

export class Api {
  /** Where the page lies, so that a reverse proxy may put a prefix before it. */
  readonly #base: URL

  constructor(base: URL) {
    this.#base = base
  }

  async server(): Promise<{ version: string; node: string; protocol: string }> {
    return (await this.#ask('')).json()
  }

  async models(): Promise<Model[]> {
    return (await this.#ask('v1/models')).json()
  }

  async session(id: string): Promise<SessionInfo> {
    return (await this.#ask(`session/${encodeURIComponent(id)}?update_ts=true`)).json()
  }

  /** Uploads files as one image: a scan, or the slices of a series. */
  createSession(files: readonly File[], progress: Progress, signal: AbortSignal): Promise<SessionInfo> {
    const form = new FormData()
    files.forEach((file, i) => {
      form.append(files.length === 1 ? 'image' : `image${i}`, file, file.name)
    })
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest()
      request.open('PUT', new URL('session/', this.#base))
      request.responseType = 'text'
      request.setRequestHeader('accept', 'application/json')
      request.upload.onprogress = ({ loaded, total }) => progress(loaded < total ? loaded / total : undefined)
      request.onerror = () => reject(new ApiError(0, {}))
      request.onabort = () => reject(signal.reason)
      request.onload = () => {
        if (request.status === 200) resolve(JSON.parse(request.responseText).session_info)
        else
          reject(new ApiError(request.status, parsed(request.responseText), request.getResponseHeader('retry-after')))
      }
      signal.addEventListener('abort', () => request.abort(), { once: true })
      request.send(form)
    })
  }

  async deleteSession(id: string): Promise<void> {
    await this.#ask(`session/${encodeURIComponent(id)}`, { method: 'DELETE' })
  }

  /** The session's image as the server decoded it: NIfTI. */
  async volume(id: string, progress: Progress, signal: AbortSignal): Promise<ArrayBuffer> {
    const response = await this.#ask(`session/${encodeURIComponent(id)}?volume=true`, { signal })
    const total = Number(response.headers.get('content-length'))
    const bytes = new Uint8Array(total)
    let at = 0
    const reader = response.body!.getReader()
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      bytes.set(read.value, at)
      at += read.value.length
      progress(at / total)
    }
    return bytes.buffer
  }

  /** Has a model make itself ready for the first click on a session's image, 2-D ones in slice `slice`. */
  async prepare(model: string, session: string, slice: number): Promise<void> {
    const query = new URLSearchParams({ model, slice: String(slice) })
    await this.#ask(`session/${encodeURIComponent(session)}/prepare?${query}`, { method: 'POST' })
  }

  /** Runs a model on a session's image and waits for the answer on one connection: for clicks, which are quick. */
  async infer(task: Task, model: string, session: string, params: object, signal: AbortSignal): Promise<Answer> {
    const started = performance.now()
    const response = await this.#ask(inferenceUrl(task, model, session), {
      method: 'POST',
      body: formOf(params),
      signal,
    })
    return answerOf(response, started)
  }

  /** Runs a model as a request that is watched while it works; aborting `signal` calls it off on the server. */
  async watch(
    task: Task,
    model: string,
    session: string,
    params: object,
    onState: (state: RequestState) => void,
    signal: AbortSignal,
  ): Promise<Answer> {
    const started = performance.now()
    const url = `${inferenceUrl(task, model, session)}&async=true`
    const accepted: RequestState = await (await this.#ask(url, { method: 'POST', body: formOf(params), signal })).json()
    const request = `v1/requests/${encodeURIComponent(accepted.id)}`
    onState(accepted)
    try {
      await this.#events(`${request}/events`, onState, signal)
    } catch (error) {
      if (signal.aborted) await this.#ask(request, { method: 'DELETE' }).catch(() => undefined)
      throw error
    }
    return answerOf(await this.#ask(`${request}/result?output=all`, { signal }), started)
  }

  /** What is asked of a tool route: the answer as it comes. */
  async tool(path: string, form: FormData, signal?: AbortSignal): Promise<Response> {
    return this.#ask(path, { method: 'POST', body: form, ...(signal === undefined ? {} : { signal }) })
  }

  #events(path: string, onState: (state: RequestState) => void, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const source = new EventSource(new URL(path, this.#base))
      const end = (settle: () => void) => {
        source.close()
        settle()
      }
      signal.addEventListener('abort', () => end(() => reject(signal.reason)), { once: true })
      source.addEventListener('progress', ({ data }) => {
        const state: RequestState = JSON.parse(data)
        onState(state)
        // The result's own answer says why a request failed.
        if (state.state !== 'queued' && state.state !== 'running') end(resolve)
      })
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) end(() => reject(new ApiError(0, {})))
      }
    })
  }

  async #ask(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers)
    if (!headers.has('accept')) headers.set('accept', 'application/json, multipart/form-data;q=0.9, */*;q=0.1')
    const response = await fetch(new URL(path, this.#base), { ...init, headers, cache: 'no-store' }).catch((error) => {
      throw init.signal?.aborted ? init.signal.reason : error instanceof TypeError ? new ApiError(0, {}) : error
    })
    if (response.ok) return response
    throw new ApiError(response.status, parsed(await response.text()), response.headers.get('retry-after'))
  }
}

function inferenceUrl(task: Task, model: string, session: string): string {
  return `v1/${task}?${new URLSearchParams({ model, session_id: session, output: 'all' })}`
}

export function formOf(params: object): FormData {
  const form = new FormData()
  form.append('params', JSON.stringify(params))
  return form
}

async function answerOf(response: Response, started: number): Promise<Answer> {
  const body = await response.arrayBuffer()
  return {
    ...parseReply(body, response.headers.get('content-type') ?? ''),
    requestId: response.headers.get('x-request-id') ?? '',
    device: response.headers.get('x-aidant-device') ?? undefined,
    timings: timingsOf(response.headers.get('server-timing') ?? ''),
    elapsed: performance.now() - started,
  }
}

/** 'read;dur=1.2, infer;dur=30' as numbers. */
function timingsOf(header: string): Record<string, number> {
  const timings: Record<string, number> = {}
  for (const [, stage, ms] of header.matchAll(/([\w-]+);dur=([\d.]+)/g)) timings[stage!] = Number(ms)
  return timings
}

function parsed(text: string): Partial<ErrorBody> {
  try {
    return JSON.parse(text)
  } catch {
    return {}
  }
}
