/** The life of one computing request: its folder, its abort signal, its deadline; all gone when its response has ended. */
import { randomUUID } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import type { JobRequest } from '../scheduler/scheduler.js'
import type { Background } from '../util/background.js'
import { openRequestFolder } from '../util/request-folder.js'
import { clientOf } from './client-address.js'
import { whenSent } from './when-sent.js'

export interface ScopeOptions {
  /** workspace/tmp. */
  readonly tmpRoot: string
  readonly deadlineSeconds: number
  /** Removes a folder that could not be removed at once. */
  readonly background: Background
}

export interface RequestScope {
  /** The server's own and secret: it opens the result in /v1/requests and names the folder. */
  readonly id: string
  /** The request's own folder: uploads and results go there. */
  readonly folder: string
  /** Aborted with an AppError as its reason when the client goes away, calls the request off, or the deadline passes. */
  readonly signal: AbortSignal
  readonly abort: (reason: AppError) => void
  /** For the scheduler; fair order is among socket addresses unless the caller knows better. */
  readonly job: JobRequest
}

/** A scope whose end is up to its owner. */
interface OpenScope extends RequestScope {
  readonly clearDeadline: () => void
  /** Resolves when the folder is gone, or is the background's to remove; never rejects. */
  readonly remove: () => Promise<void>
}

async function openScope(request: FastifyRequest, options: ScopeOptions): Promise<OpenScope> {
  // Ours and secret, since it opens the result: a client's own X-Request-Id may be guessed, or used twice.
  const id = randomUUID()
  const folder = await openRequestFolder(options.tmpRoot, id)
  const controller = new AbortController()
  const abort = (reason: AppError) => controller.abort(reason)
  const deadlineMs = options.deadlineSeconds * 1000
  const timer = setTimeout(() => {
    abort(
      new AppError('DEADLINE_EXCEEDED', `the request took longer than ${options.deadlineSeconds} s`, {
        hint: 'the operator of the server can raise this limit with --request-deadline',
      }),
    )
  }, deadlineMs)
  return {
    folder: folder.path,
    signal: controller.signal,
    abort,
    id,
    job: { trace: request.id, client: clientOf(request), host: clientOf(request) },
    clearDeadline: () => clearTimeout(timer),
    remove: () => options.background.start('removing the folder of a request', () => folder.remove()),
  }
}

/**
 * Runs `work` in a fresh scope. What it writes into the folder stays readable until the response has been sent or the
 * client has gone, whichever ends last with the work itself.
 */
export async function withScope<T>(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ScopeOptions,
  work: (scope: RequestScope) => Promise<T>,
): Promise<T> {
  const scope = await openScope(request, options)
  const working = work(scope)
  const responded = whenSent(reply).then((isSent) => {
    if (!isSent) scope.abort(new AppError('CANCELLED', 'the client went away'))
  })
  void Promise.allSettled([working, responded]).then(scope.remove)
  try {
    return await working
  } catch (error) {
    throw scope.signal.aborted ? scope.signal.reason : error
  } finally {
    scope.clearDeadline()
  }
}

/** Runs `work` in a fresh scope of its own, which no client waits for; its folder goes with it. */
export async function withOwnScope<T>(
  request: FastifyRequest,
  options: ScopeOptions,
  work: (scope: RequestScope) => Promise<T>,
): Promise<T> {
  const scope = await openScope(request, options)
  try {
    return await work(scope)
  } catch (error) {
    throw scope.signal.aborted ? scope.signal.reason : error
  } finally {
    scope.clearDeadline()
    await scope.remove()
  }
}

/** What becomes of work that outlives its response. */
export interface Detached<T> {
  /** `remove` frees the scope's folder; whoever keeps the result calls it when the result is no longer needed. */
  readonly done: (result: T, remove: () => Promise<void>) => void
  /** The folder is gone already. */
  readonly failed: (error: unknown) => void
}

/**
 * Runs `receive` while the client waits, and then `work` without it: hanging up calls off the first, not the second.
 * Resolves with what `receive` made as soon as the work has begun.
 */
export async function withDetachedScope<R, T>(
  request: FastifyRequest,
  reply: FastifyReply,
  options: ScopeOptions,
  receive: (scope: RequestScope) => Promise<R>,
  work: (scope: RequestScope, received: R) => { readonly running: Promise<T>; readonly outcome: Detached<T> },
): Promise<R> {
  const scope = await openScope(request, options)
  const hangUp = () => scope.abort(new AppError('CANCELLED', 'the client went away'))
  reply.raw.once('close', hangUp)
  try {
    const received = await receive(scope)
    reply.raw.off('close', hangUp)
    const { running, outcome } = work(scope, received)
    running.then(
      (result) => {
        scope.clearDeadline()
        outcome.done(result, scope.remove)
      },
      async (error: unknown) => {
        scope.clearDeadline()
        await scope.remove()
        outcome.failed(scope.signal.aborted ? scope.signal.reason : error)
      },
    )
    return received
  } catch (error) {
    scope.clearDeadline()
    await scope.remove()
    throw scope.signal.aborted ? scope.signal.reason : error
  }
}
