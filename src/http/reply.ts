/**
 * A job's result on the wire. The multipart writer is ours: the clients of AIAA depend on Content-Length, on the order and
 * the quoting of the part headers, and on the body starting with the boundary.
 */
import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import type { JobResult } from '../runner/job.js'

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
  const json = JSON.stringify(paramsFor(result))
  if (!wantsFile(output)) return reply.type('application/json; charset=utf-8').send(json)
  if (output === 'image' || output === 'dicom_seg') {
    if (result.file === undefined)
      throw new AppError('BAD_PARAMS', `query parameter 'output': this model makes no image; use output=results`)
    return sendFile(reply, result.file)
  }
  if (result.file === undefined && acceptsJsonOnly(request))
    return reply.type('application/json; charset=utf-8').send(json)
  return sendMultipart(reply, json, result.file)
}

/** Sends a file with its length and type. */
export async function sendFile(reply: FastifyReply, file: NonNullable<JobResult['file']>): Promise<FastifyReply> {
  const { size } = await stat(file.path)
  return reply.type(file.contentType).header('content-length', size).send(createReadStream(file.path))
}

async function sendMultipart(reply: FastifyReply, json: string, file: JobResult['file']): Promise<FastifyReply> {
  const boundary = `aidant-${randomBytes(18).toString('hex')}`
  const head = `--${boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n${json}\r\n`
  const tail = `--${boundary}--\r\n`
  reply.type(`multipart/form-data; boundary=${boundary}`)
  if (file === undefined) {
    const body = Buffer.from(head + tail)
    return reply.header('content-length', body.length).send(body)
  }
  const { size } = await stat(file.path)
  const fileHead = Buffer.from(
    `${head}--${boundary}\r\n` +
      `Content-Disposition: form-data; name="file"; filename="aas_result${file.extension}"\r\n` +
      'Content-Type: application/octet-stream\r\n\r\n',
  )
  const fileTail = Buffer.from(`\r\n${tail}`)
  return reply
    .header('content-length', fileHead.length + size + fileTail.length)
    .send(Readable.from(concatenate(fileHead, createReadStream(file.path), fileTail), { objectMode: false }))
}

async function* concatenate(head: Buffer, body: AsyncIterable<Buffer>, tail: Buffer): AsyncGenerator<Buffer> {
  yield head
  yield* body
  yield tail
}

/** Notes ride along in params, and only when there are some: clients of AIAA do not expect the key. */
function paramsFor(result: JobResult): Readonly<Record<string, unknown>> {
  return result.notes.length === 0 ? result.params : { ...result.params, notes: result.notes }
}

/** Where the time went and what computed it, as headers. */
function describeRun(reply: FastifyReply, result: JobResult): void {
  const stages = Object.entries(result.timings).map(([stage, ms]) => `${stage};dur=${ms.toFixed(1)}`)
  if (stages.length > 0) reply.header('server-timing', stages.join(', '))
  if (result.device !== undefined) reply.header('x-aidant-device', result.device)
}

/** True when the Accept header names JSON and nothing that multipart would satisfy. */
function acceptsJsonOnly(request: FastifyRequest): boolean {
  const types = (request.headers.accept ?? '*/*').split(',').map((part) => part.split(';', 1)[0]!.trim().toLowerCase())
  return types.every((type) => type === 'application/json')
}
