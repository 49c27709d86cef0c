/**
 * The one life of every request that computes, in order: a scope (folder, deadline, signal), a place on the board of
 * requests, admission, the upload, the session held, what is asked for, its run, and the reply. What ends it early, a
 * client that goes, a DELETE, the deadline, an error, ends all of it.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { JobResult } from '../contract/job.js'
import type { RequestBoard, RequestHandle } from '../scheduler/request-board.js'
import type { JobRequest, OnProgress } from '../scheduler/scheduler.js'
import type { Sessions } from '../sessions/sessions.js'
import { clientOf } from './client-address.js'
import type { Output } from './reply.js'
import { type RequestScope, type ScopeOptions, withDetachedScope, withOwnScope, withScope } from './request-scope.js'
import type { HeldImage } from './session-image.js'
import { NO_UPLOAD, receiveUpload, type Upload, type UploadLimits } from './upload.js'

export interface ComputeOptions {
  readonly sessions: Pick<Sessions, 'hold'>
  readonly board: RequestBoard
  readonly scope: ScopeOptions
  readonly uploadLimits: UploadLimits
}

/** What came with the request. */
export interface Arrived {
  readonly upload: Upload
  /** The stored image that the request names, a session's for one; held until the computation has ended. */
  readonly session: HeldImage | undefined
  readonly scope: RequestScope
}

/** How a computation asks for its work to be done. */
export interface Call {
  readonly request: JobRequest
  readonly signal: AbortSignal
  readonly onProgress: OnProgress
}

/** How a request gets at an image that is stored here. */
export interface StoredImage {
  /** Its key for fair order: clicks on one image wait for each other, not for those on other images. */
  readonly turn: string
  /** Undefined where what was uploaded goes before. */
  readonly hold: (arrived: Omit<Arrived, 'session'>, call: Call) => Promise<HeldImage | undefined>
}

/** The session of this id as a stored image; rejects SESSION_EXPIRED when it is held. Undefined for no id. */
export function storedSession(sessions: Pick<Sessions, 'hold'>, id: string | undefined): StoredImage | undefined {
  return id ? { turn: id, hold: () => sessions.hold(id) } : undefined
}

/** What a route computes. `P` is what it makes of the request before any work. */
export interface Computation<P, R> {
  /** As /v1/requests names it. */
  readonly task: string
  readonly model?: string | undefined
  /** The stored image that is to be used, if the request names one. */
  readonly stored?: StoredImage | undefined
  /** Refuses before the body is read; throws BUSY. */
  readonly admit: (request: JobRequest) => void
  /** Checks what arrived, while the client waits for its answer in any case. */
  readonly prepare: (arrived: Arrived) => Promise<P> | P
  readonly run: (prepared: P, call: Call) => Promise<R>
}

/** Computes while the client waits; `send` answers, and the request's files live until that reply has ended. */
export function compute<P, R, T>(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ComputeOptions,
  computation: Computation<P, R>,
  send: (result: R) => Promise<T> | T,
): Promise<T> {
  return withScope(request, reply, options.scope, async (scope) =>
    send(await computeIn(scope, request, options, computation, uploadOf(request, scope, options))),
  )
}

/** Checks the request while the client waits, computes without it, and keeps the result. Gives the request's secret id. */
export async function computeLater<P>(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ComputeOptions,
  computation: Computation<P, JobResult>,
  output: Output | undefined,
): Promise<string> {
  const accept = async (scope: RequestScope) => {
    const handle = options.board.open({ ...entryOf(request, scope, computation), keepsResult: true })
    try {
      return {
        id: scope.id,
        handle,
        ready: await arrive<P>(uploadOf(request, scope, options), scope, computation, handle),
      }
    } catch (error) {
      handle.end(reasonOf(scope, error))
      throw error
    }
  }
  const begin = (scope: RequestScope, { handle, ready }: Awaited<ReturnType<typeof accept>>) => ({
    running: runHeld(ready, scope, computation, handle),
    outcome: {
      done: (result: JobResult, discard: () => Promise<void>) => handle.keep({ result, output, discard }),
      failed: handle.end,
    },
  })
  const { id } = await withDetachedScope(request, reply, options.scope, accept, begin)
  return id
}

/** Computes behind a reply that does not wait for it, with a deadline and a place on the board of its own. Nothing is uploaded. */
export function computeAhead<P, R>(
  request: FastifyRequest,
  options: ComputeOptions,
  computation: Computation<P, R>,
): Promise<R> {
  return withOwnScope(request, options.scope, (scope) =>
    computeIn(scope, request, options, computation, async () => NO_UPLOAD),
  )
}

/** From a place on the board to the result, or to what ended it. */
async function computeIn<P, R>(
  scope: RequestScope,
  request: FastifyRequest,
  { board }: ComputeOptions,
  computation: Computation<P, R>,
  receive: () => Promise<Upload>,
): Promise<R> {
  const handle = board.open(entryOf(request, scope, computation))
  try {
    const ready = await arrive<P>(receive, scope, computation, handle)
    const result = await runHeld(ready, scope, computation, handle)
    handle.end()
    return result
  } catch (error) {
    handle.end(reasonOf(scope, error))
    throw error
  }
}

/** Receives what comes with the request, once it is admitted. */
function uploadOf(request: FastifyRequest, { folder }: RequestScope, { uploadLimits }: ComputeOptions) {
  return () => receiveUpload(request, folder, uploadLimits)
}

function entryOf(
  request: FastifyRequest,
  scope: RequestScope,
  { task, model }: Pick<Computation<never, never>, 'task' | 'model'>,
) {
  return { id: scope.id, trace: request.id, client: clientOf(request), task, model, abort: scope.abort }
}

interface Ready<P> {
  readonly prepared: P
  readonly request: JobRequest
  readonly session: HeldImage | undefined
}

/** From admission to what the route makes of the request. The stored image, if one is named, is held from here on. */
async function arrive<P>(
  receive: () => Promise<Upload>,
  scope: RequestScope,
  { stored, admit, prepare }: Pick<Computation<P, unknown>, 'stored' | 'admit' | 'prepare'>,
  { progress }: RequestHandle,
): Promise<Ready<P>> {
  const own: JobRequest = stored ? { ...scope.job, client: stored.turn } : scope.job
  admit(own)
  const upload = await receive()
  const call = { request: own, signal: scope.signal, onProgress: progress }
  const session = await stored?.hold({ upload, scope }, call)
  try {
    return { prepared: await prepare({ upload, session, scope }), request: own, session }
  } catch (error) {
    session?.release()
    throw error
  }
}

async function runHeld<P, R>(
  { prepared, request, session }: Ready<P>,
  { signal }: RequestScope,
  { run }: Computation<P, R>,
  { progress }: RequestHandle,
): Promise<R> {
  try {
    return await run(prepared, { request, signal, onProgress: progress })
  } finally {
    session?.release()
  }
}

/** What ended the request, rather than what went wrong when it ended. */
function reasonOf({ signal }: RequestScope, error: unknown): unknown {
  return signal.aborted ? signal.reason : error
}
