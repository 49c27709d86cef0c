/** A request that a tool runner answers: an image and params in, a result out, no model. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import type { JobResult, ToolJob } from '../contract/job.js'
import type { ReadLimits } from '../formats/format.js'
import type { Scheduler } from '../scheduler/scheduler.js'
import {
  type Arrived,
  type Call,
  type Computation,
  type ComputeOptions,
  compute,
  storedSession,
} from './compute-request.js'
import { jobInput } from './job-input.js'
import type { Output } from './reply.js'
import { sessionImage, sessionMask } from './session-image.js'

export interface ToolRouteOptions extends ComputeOptions {
  readonly scheduler: Pick<Scheduler, 'runTool' | 'admit'>
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

/** Receives the request, runs the tool on it and hands the result to `send`. */
export function runToolRequest(
  request: FastifyRequest,
  reply: FastifyReply,
  kind: ToolJob['kind'],
  { output, session_id }: ToolQuery,
  options: ToolRouteOptions,
  send: (result: JobResult) => Promise<FastifyReply>,
): Promise<FastifyReply> {
  const { readLimits, scheduler } = options
  const ofSession = kind === 'mask2polygon' ? sessionMask : sessionImage
  const computation: Computation<ToolJob, JobResult> = {
    task: kind,
    stored: storedSession(options.sessions, session_id),
    admit: (job: Parameters<Scheduler['admit']>[1]) => scheduler.admit(undefined, job),
    prepare: (arrived: Arrived): ToolJob => ({ kind, ...jobInput(arrived, output, readLimits, ofSession) }),
    run: (job: ToolJob, { request: own, signal, onProgress }: Call) => scheduler.runTool(own, job, signal, onProgress),
  }
  return compute(request, reply, options, computation, send)
}
