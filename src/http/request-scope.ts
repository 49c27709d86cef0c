/** The life of one computing request: its folder, its abort signal, its deadline; all gone when its response has ended. */
import { finished } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import type { JobRequest } from '../scheduler/scheduler.js'
import { openRequestFolder } from '../util/request-folder.js'

export interface ScopeOptions {
  /** workspace/tmp. */
  readonly tmpRoot: string
  readonly deadlineSeconds: number
}

export interface RequestScope {
  /** The request's own folder: uploads and results go there. */
  readonly folder: string
  /** Aborted with an AppError as its reason when the client goes away or the deadline passes. */
  readonly signal: AbortSignal
  /** For the scheduler; fair order is among socket addresses unless the caller knows better. */
  readonly job: JobRequest
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
  const folder = await openRequestFolder(options.tmpRoot, request.id)
  const abort = new AbortController()
  const responded = new Promise<void>((resolve) => {
    finished(reply.raw, (error) => {
      if (error) abort.abort(new AppError('CANCELLED', 'the client went away'))
      resolve()
    })
  })
  const deadlineMs = options.deadlineSeconds * 1000
  const timer = setTimeout(() => {
    abort.abort(
      new AppError('DEADLINE_EXCEEDED', `the request took longer than ${options.deadlineSeconds} s`, {
        hint: 'the operator of the server can raise this limit with --request-deadline',
      }),
    )
  }, deadlineMs)
  const job: JobRequest = { id: request.id, client: request.raw.socket.remoteAddress ?? 'unknown', deadlineMs }
  const settled = work({ folder: folder.path, signal: abort.signal, job })
  Promise.allSettled([settled, responded])
    .then(() => folder.remove())
    .catch((error: unknown) => request.log.warn({ err: error }, 'request folder not removed'))
  try {
    return await settled
  } catch (error) {
    throw abort.signal.aborted ? abort.signal.reason : error
  } finally {
    clearTimeout(timer)
  }
}
