/**
 * A job's result on the wire. The multipart writer is ours: the clients of AIAA depend on Content-Length, on the order and
 * the quoting of the part headers, and on the body starting with the boundary.
 */
import { randomBytes } from 'node:crypto'
import { createReadStream, type ReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { JobResult } from '../contract/job.js'
import { AppError } from '../errors.js'

/** As the first AIAA servers called it: an old client looks for this suffix of its own. */
const RESULT_NAME = 'aas_result'

/** Values of the `output` query parameter; absent means multipart. */
export const OUTPUTS = ['all', 'image', 'results', 'result', 'json', 'dicom_seg'] as const
export type Output = (typeof OUTPUTS)[number]

/** Whether a reply of this kind carries the result file at all. */
export function wantsFile(output: Output | undefined): boolean {
  return output !== 'results' && output !== 'result' && output !== 'json'
}

/**
 * Sends a result: `image` and `dicom_seg` as the bare file; `results`, `result`, `json` as JSON; everything else as multipart
 * with `params` and then `file`, or with `params` alone when there is no file (and as JSON when the client asks for nothing
 * but JSON). The file is streamed from where it lies; its folder must live until the response has ended.
 */
export async function sendResult(
  request: FastifyRequest,
  reply: FastifyReply,
  result: JobResult,
  output: Output | undefined,
): Promise<FastifyReply> {
  describeRun(reply, result)
  if (!wantsFile(output)) return sendParams(reply, result)
  if (output === 'image' || output === 'dicom_seg') {
    if (result.file === undefined)
      throw new AppError('BAD_PARAMS', `query parameter 'output': this model makes no image; use output=results`)
    return sendFile(reply, result.file)
  }
  if (result.file === undefined && acceptsJsonOnly(request)) return sendParams(reply, result)
  return sendMultipart(reply, result)
}

async function sendParams(reply: FastifyReply, result: JobResult): Promise<FastifyReply> {
  const type = 'application/json; charset=utf-8'
  if (result.paramsPath !== undefined)
    return sendFile(reply, { path: result.paramsPath, extension: '.json', contentType: type })
  return reply.type(type).send(JSON.stringify(paramsFor(result)))
}

/** Sends a file with its length and type, under an ASCII `name` without quotes. A picture and JSON are for a browser to show, everything else to keep. */
export async function sendFile(
  reply: FastifyReply,
  file: NonNullable<JobResult['file']>,
  name = RESULT_NAME,
): Promise<FastifyReply> {
  const { size } = await stat(file.path)
  const shown = /^(image\/|application\/json)/.test(file.contentType)
  return reply
    .type(file.contentType)
    .header('content-length', size)
    .header('content-disposition', `${shown ? 'inline' : 'attachment'}; filename="${name}${file.extension}"`)
    .send(streamOf({ path: file.path, length: size }))
}

async function sendMultipart(reply: FastifyReply, result: JobResult): Promise<FastifyReply> {
  const { file, paramsPath } = result
  const boundary = `aidant-${randomBytes(18).toString('hex')}`
  const pieces: Piece[] = [Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n`)]
  pieces.push(paramsPath === undefined ? Buffer.from(JSON.stringify(paramsFor(result))) : await pieceOf(paramsPath))
  if (file !== undefined) {
    const head =
      `\r\n--${boundary}\r\n` +
      `Content-Disposition: form-data; name="file"; filename="${RESULT_NAME}${file.extension}"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n'
    pieces.push(Buffer.from(head), await pieceOf(file.path))
  }
  pieces.push(Buffer.from(`\r\n--${boundary}--\r\n`))
  reply.type(`multipart/form-data; boundary=${boundary}`)
  reply.header(
    'content-length',
    pieces.reduce((bytes, piece) => bytes + piece.length, 0),
  )
  if (pieces.every((piece) => Buffer.isBuffer(piece))) return reply.send(Buffer.concat(pieces))
  return reply.send(Readable.from(concatenate(pieces), { objectMode: false }))
}

/** Part of a body: bytes, or a file of as many. */
type Piece = Buffer | FilePiece

interface FilePiece {
  readonly path: string
  readonly length: number
}

/** Most masks are one read: each is a trip to another thread and back. */
const READ_BYTES = 256 * 1024

/** Just so many bytes, since that many were announced; nor is the end looked for once they are there. */
function streamOf({ path, length }: FilePiece): ReadStream {
  return createReadStream(path, { highWaterMark: READ_BYTES, end: Math.max(0, length - 1) })
}

async function pieceOf(path: string): Promise<FilePiece> {
  return { path, length: (await stat(path)).size }
}

async function* concatenate(pieces: readonly Piece[]): AsyncGenerator<Buffer> {
  for (const piece of pieces) {
    if (Buffer.isBuffer(piece)) yield piece
    else yield* streamOf(piece)
  }
}

/** Notes ride along in params, and only when there are some: clients of AIAA do not expect the key. */
function paramsFor(result: JobResult): Readonly<Record<string, unknown>> {
  return result.notes.length === 0 ? result.params : { ...result.params, notes: result.notes }
}

/** Where the time went and what computed it, as headers. */
function describeRun(reply: FastifyReply, result: JobResult): void {
  const stages = Object.entries(result.timings).map(([stage, ms]) =>
    stage === 'encoder' && ms === 0 ? 'encoder;dur=0.0;desc="cached"' : `${stage};dur=${ms.toFixed(1)}`,
  )
  if (stages.length > 0) reply.header('server-timing', stages.join(', '))
  if (result.device !== undefined) reply.header('x-aidant-device', result.device)
}

/** True when the Accept header names JSON and nothing that multipart would satisfy. */
function acceptsJsonOnly(request: FastifyRequest): boolean {
  const types = (request.headers.accept ?? '*/*').split(',').map((part) => part.split(';', 1)[0]!.trim().toLowerCase())
  return types.every((type) => type === 'application/json')
}
