/** /v1/requests: where a request stands, in one look or as a stream of events; calling it off; fetching a kept result. */
import type { Socket } from 'node:net'
import { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { AppError } from '../../errors.js'
import { isUnderWay, type RequestBoard, type RequestView } from '../../scheduler/request-board.js'
import { clientOf } from '../client-address.js'
import { RESULT_RESPONSE } from '../openapi-upload.js'
import { OUTPUTS, type Output, sendResult, wantsFile } from '../reply.js'
import { INFERENCE_REFUSALS, refusals } from '../schemas.js'
import { whenSent } from '../when-sent.js'

/** A reply that has left for a client that is gone is refused by its machine within this time, on any usual network. */
const REFUSAL_MS = 500

/** A line that keeps proxies from closing a quiet stream. */
const HEARTBEAT_MS = 15_000

export const RequestInfo = z
  .object({
    id: z.string().optional().meta({
      description: 'given by the server, and secret: who knows it may watch, call off and fetch. Not in lists',
    }),
    trace: z.string().meta({ description: "the client's own X-Request-Id, or what the log calls the request" }),
    task: z.string(),
    model: z.string().optional(),
    state: z.enum(['queued', 'running', 'done', 'failed', 'cancelled']),
    queue_place: z.int().optional().meta({ description: '0 for the one that runs next' }),
    stage: z
      .string()
      .optional()
      .meta({ description: 'read, pre, wait, infer (of a model of two parts: encoder, decoder), post or write' }),
    done: z.number().optional().meta({ description: 'windows done of `total`, within the stage' }),
    total: z.number().optional(),
    part: z.string().optional().meta({ description: 'of a model of several networks, which one works' }),
    estimate_seconds: z
      .number()
      .optional()
      .meta({ description: "how long such a request takes, from this model's own history" }),
    created_ts: z.number().meta({ description: 'seconds since 1970' }),
    seconds: z.number().meta({ description: 'since it came, or how long it took' }),
    result: z
      .string()
      .optional()
      .meta({ description: 'where the result of an async=true request can be fetched, once' }),
    error: z.object({ code: z.string(), message: z.string() }).optional(),
  })
  .meta({ id: 'RequestInfo' })

const RequestList = z
  .object({
    requests: z.array(RequestInfo).meta({ description: 'your own: those from the same address' }),
    others: z
      .array(z.object({ model: z.string().optional(), state: z.string(), count: z.int() }))
      .meta({ description: "how many of other clients' requests wait or run" }),
  })
  .meta({ id: 'RequestList' })

const EVENTS = { 'text/event-stream': { schema: { type: 'string' } } } as const

const VIEW_RESPONSE = {
  description: 'where the request stands; as events when the Accept header asks for them',
  content: { 'application/json': { schema: { $ref: '#/components/schemas/RequestInfo' } }, ...EVENTS },
} as const

const RequestId = z.object({ id: z.string().max(100) })

export interface RequestRouteOptions {
  readonly board: RequestBoard
  readonly now: () => number
}

export const requestRoutes: FastifyPluginAsyncZod<RequestRouteOptions> = async (app, { board, now }) => {
  app.get(
    '/v1/requests',
    {
      schema: {
        operationId: 'listRequests',
        tags: ['requests'],
        summary: 'Your requests, and how many others wait',
        response: { 200: RequestList },
      },
    },
    async (request) => {
      const client = clientOf(request)
      const all = board.list()
      return {
        requests: all.filter((view) => view.client === client).map((view) => publicInfoOf(view, now())),
        others: countOthers(all.filter((view) => view.client !== client && isUnderWay(view))),
      }
    },
  )

  app.get(
    '/v1/requests/:id',
    {
      schema: {
        operationId: 'getRequest',
        tags: ['requests'],
        summary: 'Where one request stands',
        description:
          'With `Accept: text/event-stream`, or at /v1/requests/{id}/events, as server-sent events until it ends.',
        params: RequestId,
        response: { 200: z.union([RequestInfo, z.unknown()]), ...refusals(400, 404) },
      },
      config: { openapi: { responses: { 200: VIEW_RESPONSE } } },
    },
    async (request, reply) => {
      const { id } = request.params
      if (request.headers.accept?.includes('text/event-stream')) return sendEvents(reply, board, id, now)
      return infoOf(board.get(id), now())
    },
  )

  app.get(
    '/v1/requests/:id/events',
    {
      schema: {
        operationId: 'watchRequest',
        tags: ['requests'],
        summary: 'The progress of one request as server-sent events',
        params: RequestId,
        response: refusals(404),
      },
      config: {
        openapi: {
          responses: { 200: { description: 'events named `progress`, each a RequestInfo', content: EVENTS } },
        },
      },
    },
    async (request, reply) => sendEvents(reply, board, request.params.id, now),
  )

  app.get(
    '/v1/requests/:id/result',
    {
      schema: {
        operationId: 'fetchResult',
        tags: ['requests'],
        summary: 'The result of a request made with async=true; it can be fetched once',
        description:
          'Answers 202 with where the request stands until it has ended. The error of a failed request comes back as such. ' +
          'Without `output` the reply is of the kind that the request itself asked for. A HEAD, a refused `output`, the JSON ' +
          'of a result that has a file as well, and a download that breaks off leave the result where it is.',
        params: RequestId,
        querystring: z.object({ output: z.enum(OUTPUTS).optional() }),
        response: { 202: RequestInfo, ...refusals(...INFERENCE_REFUSALS) },
      },
      config: { openapi: { responses: { 200: RESULT_RESPONSE } } },
    },
    async (request, reply) => {
      const view = board.get(request.params.id)
      if (isUnderWay(view)) return reply.code(202).header('retry-after', 1).send(infoOf(view, now()))
      const { result, output: computedFor, giveBack } = board.borrow(request.params.id)
      const { output: asked } = request.query
      // Who looks at the numbers first may still want the file.
      const leavesFile = result.file !== undefined && wantsFile(computedFor as Output | undefined) && !wantsFile(asked)
      void whenSent(reply).then((isSent) => {
        const isTaken = isSent && !leavesFile && request.method === 'GET' && reply.statusCode === 200
        giveBack(isTaken && received(request.raw.socket))
      })
      return sendResult(request, reply, result, outputOf(asked, computedFor as Output | undefined))
    },
  )

  app.delete(
    '/v1/requests/:id',
    {
      schema: {
        operationId: 'cancelRequest',
        tags: ['requests'],
        summary: 'Call a request off, or throw its result away',
        params: RequestId,
        response: { 200: RequestInfo, ...refusals(404) },
      },
    },
    async (request) => infoOf(board.cancel(request.params.id), now()),
  )
}

/** The reply to send: what the fetch asks for, as far as the result was computed for it. Throws BAD_PARAMS. */
function outputOf(asked: Output | undefined, computedFor: Output | undefined): Output | undefined {
  if (asked === undefined) return computedFor
  const isSeg = computedFor === 'dicom_seg'
  const isOtherFile = (asked === 'dicom_seg' && !isSeg) || (asked === 'image' && isSeg)
  if (isOtherFile || (wantsFile(asked) && !wantsFile(computedFor)))
    throw new AppError('BAD_PARAMS', `query parameter 'output': the result was not computed for output=${asked}`, {
      hint: `leave output out here, or make the request itself with output=${asked}`,
    })
  return asked
}

/**
 * Whether the client's machine took a reply whose last bytes have left. One that hung up before it had read them all
 * refuses them with a reset, which comes a moment later.
 */
function received(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (isReceived: boolean) => {
      clearTimeout(timer)
      socket.off('error', refused)
      socket.off('close', closed)
      resolve(isReceived)
    }
    const refused = () => answer(false)
    const closed = (hadError: boolean) => answer(!hadError)
    const timer = setTimeout(() => answer(true), REFUSAL_MS)
    timer.unref()
    socket.once('error', refused)
    socket.once('close', closed)
  })
}

export function infoOf(view: RequestView, now: number): z.infer<typeof RequestInfo> {
  const { progress, error } = view
  return {
    id: view.id,
    trace: view.trace,
    task: view.task,
    ...(view.model === undefined ? {} : { model: view.model }),
    state: view.state,
    ...(progress?.queuePlace === undefined ? {} : { queue_place: progress.queuePlace }),
    ...(progress?.stage === undefined ? {} : { stage: progress.stage }),
    ...(progress?.total === undefined ? {} : { done: progress.done ?? 0, total: progress.total }),
    ...(progress?.part === undefined ? {} : { part: progress.part }),
    ...(progress?.estimateMs === undefined ? {} : { estimate_seconds: rounded(progress.estimateMs) }),
    created_ts: Math.floor(view.createdAt / 1000),
    seconds: rounded((view.finishedAt ?? now) - view.createdAt),
    // Relative on purpose: a reverse proxy may have put a prefix before the path.
    ...(view.hasResult ? { result: `/v1/requests/${view.id}/result` } : {}),
    ...(error ? { error: { code: error.code, message: error.message } } : {}),
  }
}

/** What a list shows: other people may have the same address, behind a proxy for one, so nothing that opens a result. */
function publicInfoOf(view: RequestView, now: number): z.infer<typeof RequestInfo> {
  const { id: _id, result: _result, ...info } = infoOf(view, now)
  return info
}

function rounded(ms: number): number {
  return Math.round(ms) / 1000
}

function countOthers(views: readonly RequestView[]): z.infer<typeof RequestList>['others'] {
  const counts = new Map<string, { model?: string; state: string; count: number }>()
  for (const { model, state } of views) {
    const key = `${state} ${model ?? ''}`
    const known = counts.get(key) ?? { ...(model === undefined ? {} : { model }), state, count: 0 }
    counts.set(key, { ...known, count: known.count + 1 })
  }
  return [...counts.values()]
}

function sendEvents(reply: FastifyReply, board: RequestBoard, id: string, now: () => number): FastifyReply {
  board.get(id)
  return reply
    .type('text/event-stream')
    .header('cache-control', 'no-store')
    .header('x-accel-buffering', 'no')
    .send(Readable.from(events(board, id, now), { objectMode: false }))
}

/** One event at once, one per change, and the last when the request ends. */
async function* events(board: RequestBoard, id: string, now: () => number): AsyncGenerator<string> {
  let changed: () => void = () => undefined
  let timer: NodeJS.Timeout | undefined
  const unsubscribe = board.subscribe(id, () => changed())
  try {
    for (;;) {
      const next = new Promise<'change'>((resolve) => {
        changed = () => resolve('change')
      })
      const view = board.get(id)
      yield `event: progress\ndata: ${JSON.stringify(infoOf(view, now()))}\n\n`
      if (!isUnderWay(view)) return
      for (;;) {
        const quiet = new Promise<'quiet'>((resolve) => {
          timer = setTimeout(() => resolve('quiet'), HEARTBEAT_MS)
        })
        const what = await Promise.race([next, quiet])
        clearTimeout(timer)
        if (what === 'change') break
        yield ': still here\n\n'
      }
    }
  } finally {
    clearTimeout(timer)
    unsubscribe()
  }
}
