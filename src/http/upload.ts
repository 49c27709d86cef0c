/**
 * A request's body, streamed to files in the request's folder with every limit checked on the way. Owned here: which parts
 * are images and which is `params`. File names of clients are never used on disk; formats are known by content.
 */
import { createWriteStream } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type {} from '@fastify/multipart'
import type { FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import { inChannelOrder } from '../util/channel-order.js'
import { parseParams } from '../util/parse-params.js'

/** Bytes of a file that the parser holds while earlier ones are on their way to the disk. */
const READ_AHEAD_BYTES = 1024 * 1024
/** Bytes that wait for the disk: what arrived during one write goes out in the next, in one call. */
const WRITE_AHEAD_BYTES = 4 * 1024 * 1024

export interface UploadLimits {
  /** Bytes of all files of one request together. */
  readonly maxUploadBytes: number
  readonly maxUploadFiles: number
  readonly maxParamsBytes: number
  /** The flag behind maxUploadBytes, when it is another one than --max-upload-bytes. */
  readonly bytesFlag?: string
}

export interface UploadedFile {
  /** The part's name: image, datapoint, image0, config, data … */
  readonly field: string
  /** Our own name for it inside the request's folder. */
  readonly path: string
  readonly bytes: number
  readonly contentType: string
  /** What its sender calls it, '' for nothing: for looking at, never a path. */
  readonly filename: string
}

export interface Upload {
  readonly files: readonly UploadedFile[]
  /** The text parts, by name; the last of a name counts. `params` may have come as a file part. */
  readonly fields: ReadonlyMap<string, string>
  /** Where `params` lie instead when they are long. */
  readonly paramsPath?: string | undefined
}

export const NO_UPLOAD: Upload = { files: [], fields: new Map() }

/** Polygons of a whole mask take megabytes; parsing them here would keep everybody waiting. */
const LONG_PARAMS = 256 * 1024

/** Parts without a file besides `params`; AIAA has none, so a few are plenty. */
const MOST_FIELDS = 32
/** Of a field other than params: one that is declared as JSON is parsed here, where everybody waits for it. */
const MOST_FIELD_BYTES = 1024 * 1024

/** Parts named params: one, and another from a client that says it twice. They are read as files are. */
const MOST_PARAMS = 2

/**
 * Receives a body of any kind: multipart parts; a bare body (application/octet-stream, image/png …) as the file `image`;
 * a JSON body as `params`; no body at all as an empty upload. Rejects TOO_LARGE naming the flag, BAD_REQUEST on a broken body.
 */
export async function receiveUpload(request: FastifyRequest, folder: string, limits: UploadLimits): Promise<Upload> {
  checkLength(request, limits)
  if (request.isMultipart()) return receiveParts(request, folder, limits)
  const { body } = request
  if (body === undefined || body === null) return NO_UPLOAD
  if (typeof body === 'string') return withParams(NO_UPLOAD, body, folder)
  const counter = new ByteCounter(limits)
  const path = join(folder, 'input-0')
  await store(request, body as Readable, path, counter)
  if (counter.bytes === 0) return NO_UPLOAD
  const contentType = request.headers['content-type'] ?? 'application/octet-stream'
  return { files: [{ field: 'image', path, bytes: counter.bytes, contentType, filename: '' }], fields: new Map() }
}

async function withParams(upload: Upload, params: string, folder: string): Promise<Upload> {
  if (params.length <= LONG_PARAMS) return { ...upload, fields: new Map([...upload.fields, ['params', params]]) }
  const paramsPath = join(folder, 'params.json')
  await writeFile(paramsPath, params)
  return { ...upload, paramsPath }
}

/** The params of an upload as an object, if they are not in a file. Rejects BAD_PARAMS. */
export function paramsOf(upload: Upload): Record<string, unknown> {
  return parseParams(upload.fields.get('params'))
}

async function receiveParts(request: FastifyRequest, folder: string, limits: UploadLimits): Promise<Upload> {
  // The parser waits for ever on a request that was gone before it began to listen.
  if (request.raw.destroyed) throw new AppError('CANCELLED', 'the client went away during the upload')
  const counter = new ByteCounter(limits)
  const received: UploadedFile[] = []
  let stored = 0
  const fields = new Map<string, string>()
  let params: string | undefined
  let textBytes = 0
  const parts = request.parts({
    // A field of JSON would be parsed on arrival, and the text be lost; as a file it is read as it is.
    isPartAFile: (name: string | undefined, type: string | undefined, filename: string | undefined) =>
      filename !== undefined || name === 'params' || type === 'application/octet-stream',
    fileHwm: READ_AHEAD_BYTES,
    highWaterMark: READ_AHEAD_BYTES,
    limits: {
      fieldNameSize: 200,
      fieldSize: Math.min(MOST_FIELD_BYTES, limits.maxParamsBytes),
      fields: MOST_FIELDS,
      fileSize: limits.maxUploadBytes + 1,
      files: limits.maxUploadFiles + MOST_PARAMS,
      parts: limits.maxUploadFiles + MOST_FIELDS,
      headerPairs: 50,
    },
  })
  try {
    for await (const part of parts) {
      // The parser gives undefined where the header is broken, whatever its types say.
      if (!part.fieldname) throw new AppError('BAD_REQUEST', 'a part has no name')
      if (part.type === 'field') {
        if (part.valueTruncated) throw longField(part.fieldname, limits)
        if (part.fieldnameTruncated) throw new AppError('BAD_REQUEST', 'a part has a name of more than 200 bytes')
        const text = typeof part.value === 'string' ? part.value : JSON.stringify(part.value)
        textBytes += text.length
        // Of all fields together, since each of them is in memory.
        if (textBytes > limits.maxParamsBytes) throw tooLarge('the fields', limits.maxParamsBytes, '--max-params-bytes')
        fields.set(part.fieldname, text)
      } else if (part.fieldname === 'params') {
        params = await readText(part.file, limits.maxParamsBytes)
      } else {
        if (stored === limits.maxUploadFiles) throw tooManyFiles(limits)
        const path = join(folder, `input-${stored++}`)
        const before = counter.bytes
        await store(request, part.file, path, counter)
        const bytes = counter.bytes - before
        // A form's file input that was left empty arrives as a nameless part of no bytes.
        if (bytes > 0 || part.filename !== '') {
          const { fieldname: field, mimetype: contentType, filename = '' } = part
          received.push({ field, path, bytes, contentType, filename })
        }
      }
    }
  } catch (error) {
    throw translate(error, limits)
  }
  const files = inChannelOrder(received)
  if (files.length === 0 && fields.size === 0 && params === undefined && request.headers['content-length'] !== '0')
    throw new AppError('BAD_REQUEST', 'the multipart body has no part', {
      hint: 'its parts must be separated by the boundary that the Content-Type header names',
    })
  return params === undefined ? { files, fields } : withParams({ files, fields }, params, folder)
}

function checkLength(request: FastifyRequest, limits: UploadLimits): void {
  const length = Number(request.headers['content-length'] ?? 0)
  const most = limits.maxUploadBytes + limits.maxParamsBytes + 1024 * 1024
  if (length > most) throw tooLarge('the request', limits.maxUploadBytes, limits.bytesFlag)
}

async function store(request: FastifyRequest, source: Readable, path: string, counter: ByteCounter): Promise<void> {
  const sink = createWriteStream(path, { flags: 'wx', highWaterMark: WRITE_AHEAD_BYTES })
  counter.watch(source, sink)
  await pipeline(source, sink)
  if (request.raw.destroyed && !request.raw.complete)
    throw new AppError('CANCELLED', 'the client went away during the upload')
}

async function readText(source: Readable, most: number): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of source as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > most) throw tooLarge("the field 'params'", most, '--max-params-bytes')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Counts the file bytes of one request and fails the file that crosses the limit. */
class ByteCounter {
  readonly #limits: UploadLimits
  bytes = 0

  constructor(limits: UploadLimits) {
    this.#limits = limits
  }

  /** Looks on: a stream between the two would cost a turn of its own for every piece. */
  watch(source: Readable, sink: Writable): void {
    const { maxUploadBytes, bytesFlag } = this.#limits
    source.on('data', (chunk: Buffer) => {
      this.bytes += chunk.length
      if (this.bytes > maxUploadBytes) sink.destroy(tooLarge('the upload', maxUploadBytes, bytesFlag))
    })
  }
}

function tooLarge(what: string, most: number, flag = '--max-upload-bytes'): AppError {
  return new AppError('TOO_LARGE', `${what} is larger than ${most} bytes`, {
    hint: `the operator of the server can raise this limit with ${flag}`,
  })
}

function longField(name: string, { maxParamsBytes }: UploadLimits): AppError {
  if (maxParamsBytes < MOST_FIELD_BYTES) return tooLarge(`the field '${name}'`, maxParamsBytes, '--max-params-bytes')
  return new AppError('TOO_LARGE', `the field '${name}' is larger than ${MOST_FIELD_BYTES} bytes`, {
    hint: "long values belong into the field 'params'",
  })
}

function tooManyFiles({ maxUploadFiles }: UploadLimits, cause?: unknown): AppError {
  return new AppError('TOO_LARGE', `the request has more than ${maxUploadFiles} files`, {
    hint: 'the operator of the server can raise this limit with --max-upload-files',
    ...(cause === undefined ? {} : { cause }),
  })
}

/** Errors of the multipart parser, in words for the person who built the request. */
function translate(error: unknown, limits: UploadLimits): unknown {
  if (error instanceof AppError || !(error instanceof Error)) return error
  const { code } = error as NodeJS.ErrnoException
  if (code === 'FST_FILES_LIMIT' || code === 'FST_PARTS_LIMIT') return tooManyFiles(limits, error)
  if (code === 'FST_FIELDS_LIMIT')
    return new AppError('TOO_LARGE', `the request has more than ${MOST_FIELDS} fields`, { cause: error })
  if (code === 'FST_MP_PREMATURE_CLOSE' || code === 'ERR_STREAM_PREMATURE_CLOSE')
    return new AppError('CANCELLED', 'the client went away during the upload', { cause: error })
  if (code === 'FST_PROTO_VIOLATION')
    return new AppError('BAD_REQUEST', 'a part has a name that is not allowed', { cause: error })
  if (code === 'FST_INVALID_JSON_FIELD_ERROR')
    return new AppError('BAD_PARAMS', 'a part is declared as application/json but is not valid JSON', {
      hint: `a part other than params may have ${MOST_FIELD_BYTES} bytes of it`,
      cause: error,
    })
  // The parser looks for the boundary, its needle, and takes one of up to 250 characters; the standard allows 70.
  if (/boundary|needle/i.test(error.message))
    return new AppError(
      'BAD_REQUEST',
      'the Content-Type header of a multipart request must name its boundary, of at most 70 characters',
      { cause: error },
    )
  if (/unexpected end|terminated early|malformed|multipart/i.test(error.message))
    return new AppError('BAD_REQUEST', 'the multipart body ends too early or is malformed', { cause: error })
  return error
}
