/** Instances that a peer stores with us (C-STORE, of a C-GET or a C-MOVE) become files. */
import { open } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import dimse, { type association, type requests, type responses } from 'dcmjs-dimse'
import { AppError } from '../errors.js'
import type { FetchContext } from './fetch-context.js'
import { part10Head } from './part10.js'

type CStoreRequest = requests.CStoreRequest
type PresentationContext = association.PresentationContext

const UID = /^[0-9][0-9.]{0,63}$/
/** We offer 256 KiB; some peers add a little. A longer PDU would be gathered in memory whole, by a library that copies. */
const MAX_PDU_BYTES = 4 * 1024 * 1024
const PDU_HEADER_BYTES = 6

export interface InstanceStore {
  readonly paths: readonly string[]
  /** What ended the retrieval from our side: a cap, a full disk, a peer that breaks the protocol. */
  readonly fault: unknown
  /** Hooks for a dcmjs-dimse Network: instances are gathered raw, never parsed here. */
  createStoreWritableStream(context: PresentationContext, request: CStoreRequest): Writable
  createDatasetFromStoreWritableStream(
    stream: Writable,
    context: PresentationContext,
    done: (set: undefined) => void,
  ): void
  /** Writes the gathered instance, then answers the peer. */
  store(request: CStoreRequest, respond: (response: responses.CStoreResponse) => void): void
  /** Counts the socket's bytes, and ends it when a PDU is longer than anything honest or when the budget is used up. */
  guard(socket: Socket): void
}

export function createInstanceStore(context: FetchContext, onLife: () => void): InstanceStore {
  const paths: string[] = []
  const gathered = new WeakMap<CStoreRequest, Gathered>()
  const sockets = new Set<Socket>()
  let fault: unknown
  let count = 0

  const fail = (error: unknown): void => {
    fault ??= error
    for (const socket of sockets) socket.destroy()
  }

  return {
    paths,
    get fault() {
      return fault
    },
    createStoreWritableStream(presentation, request) {
      const stream = new Gathered(presentation.getAcceptedTransferSyntaxUid() ?? '')
      gathered.set(request, stream)
      return stream
    },
    createDatasetFromStoreWritableStream(_stream, _presentation, done) {
      done(undefined)
    },
    store(request, respond) {
      const stream = gathered.get(request)
      const path = join(context.folder, `instance-${String(count++).padStart(6, '0')}`)
      const response = dimse.responses.CStoreResponse.fromRequest(request)
      writeInstance(path, stream, request, context)
        .then(() => {
          paths.push(path)
          response.setStatus(dimse.constants.Status.Success)
          respond(response)
        })
        .catch(fail)
    },
    guard(socket) {
      sockets.add(socket)
      const check = pduCheck()
      // Ahead of the library's own listener, so that it never sees what is refused.
      socket.prependListener('data', (chunk: Buffer) => {
        try {
          onLife()
          context.budget.take(chunk.length)
          check(chunk)
        } catch (error) {
          fail(error)
        }
      })
      socket.on('close', () => sockets.delete(socket))
    },
  }
}

/** An instance's data set as it arrived. Never pushes back: a peer waits for our answer before it sends the next. */
class Gathered extends Writable {
  readonly transferSyntax: string
  readonly chunks: Buffer[] = []

  constructor(transferSyntax: string) {
    super({ highWaterMark: Number.MAX_SAFE_INTEGER })
    this.transferSyntax = transferSyntax
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.chunks.push(chunk)
    done()
  }
}

async function writeInstance(
  path: string,
  stream: Gathered | undefined,
  request: CStoreRequest,
  context: FetchContext,
): Promise<void> {
  const sopClass = request.getAffectedSopClassUid()
  const sopInstance = request.getAffectedSopInstanceUid()
  const uids = [sopClass, sopInstance, stream?.transferSyntax]
  if (!stream || !uids.every((uid) => typeof uid === 'string' && UID.test(uid)))
    throw new AppError('FETCH_FAILED', 'the DICOM server sent an image without its UIDs')
  context.budget.file()
  const file = await open(path, 'wx')
  try {
    await file.writev([part10Head(sopClass, sopInstance, stream.transferSyntax), ...stream.chunks])
  } finally {
    await file.close()
  }
}

/** Follows the PDUs' framing through the chunks; throws at one that claims too much. */
function pduCheck(): (chunk: Buffer) => void {
  const header = Buffer.alloc(PDU_HEADER_BYTES)
  let headerBytes = 0
  let bodyLeft = 0
  return (chunk) => {
    let at = 0
    while (at < chunk.length) {
      if (bodyLeft > 0) {
        const step = Math.min(bodyLeft, chunk.length - at)
        bodyLeft -= step
        at += step
        continue
      }
      headerBytes += chunk.copy(header, headerBytes, at, at + PDU_HEADER_BYTES - headerBytes)
      at = Math.min(chunk.length, at + PDU_HEADER_BYTES)
      if (headerBytes < PDU_HEADER_BYTES) return
      headerBytes = 0
      bodyLeft = header.readUInt32BE(2)
      if (bodyLeft > MAX_PDU_BYTES)
        throw new AppError('FETCH_FAILED', 'the DICOM server breaks the protocol: a PDU is too long')
    }
  }
}
