/** A request that a tool runner answers: an image and params in, a result out, no model. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { JobResult, ToolJob } from '../contract/job.js'
import type { ReadLimits } from '../formats/format.js'
import type { RequestBoard } from '../scheduler/request-board.js'
import type { Scheduler } from '../scheduler/scheduler.js'
import type { HeldSession, Sessions } from '../sessions/sessions.js'
import { imagesFromOneSource } from './one-source.js'
import type { Output } from './reply.js'
import { clientOf, type RequestScope, type ScopeOptions, withScope } from './request-scope.js'
import { readWish } from './result-wish.js'
import { sessionImage, sessionMask } from './session-image.js'
import { imagesOf, paramsOf, receiveUpload, type Upload, type UploadLimits } from './upload.js'

export interface ToolRouteOptions {
  readonly scheduler: Pick<Scheduler, 'runTool'>
  readonly sessions: Pick<Sessions, 'hold'>
  readonly board: RequestBoard
  readonly scope: ScopeOptions
  readonly uploadLimits: UploadLimits
  readonly readLimits: ReadLimits
}

export const SessionQuery = z
  .string()
  .optional()
  .meta({ description: 'a session whose image is used; then the body carries no image' })

export interface ToolQuery {
  readonly session_id?: string | undefined
  readonly output?: Output | undefined
}

/** Receives the request, runs the tool on it and hands the result to `send`; the request's files live until the reply ended. */
export function runToolRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  kind: ToolJob['kind'],
  query: ToolQuery,
  options: ToolRouteOptions,
  send: (result: JobResult) => Promise<FastifyReply>,
): Promise<FastifyReply> {
  return withScope(request, reply, options.scope, async (scope) => {
    const entry = { id: scope.id, trace: request.id, client: clientOf(request), task: kind, abort: scope.abort }
    const handle = options.board.open(entry)
    try {
      const upload = await receiveUpload(request, scope.folder, options.uploadLimits)
      const session = query.session_id ? await options.sessions.hold(query.session_id) : undefined
      try {
        const job = await toolJob(kind, query, upload, session, scope, options)
        const client = query.session_id || scope.job.client
        const result = await options.scheduler.runTool({ ...scope.job, client }, job, scope.signal, handle.progress)
        handle.end()
        return await send(result)
      } finally {
        session?.release()
      }
    } catch (error) {
      handle.end(scope.signal.aborted ? scope.signal.reason : error)
      throw error
    }
  })
}

async function toolJob(
  kind: ToolJob['kind'],
  { output }: ToolQuery,
  upload: Upload,
  session: HeldSession | undefined,
  scope: RequestScope,
  { readLimits: limits }: ToolRouteOptions,
): Promise<ToolJob> {
  const images = imagesFromOneSource(
    await imagesOf(upload),
    session,
    kind === 'mask2polygon' ? sessionMask : sessionImage,
  )
  const text = upload.fields.get('params') ?? ''
  const paramsPath = text.length > LONG_PARAMS ? join(scope.folder, 'params.json') : undefined
  if (paramsPath !== undefined) await writeFile(paramsPath, text)
  const params = paramsPath === undefined ? paramsOf(upload) : {}
  const wish = readWish(params, output, session?.meta.extension)
  return { kind, images, params, paramsPath, wish, outDir: scope.folder, limits }
}

/** Polygons of a whole mask take megabytes; parsing them here would keep everybody waiting. */
const LONG_PARAMS = 256 * 1024
