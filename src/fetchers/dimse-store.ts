/** Instances that a peer stores with us (C-STORE, of a C-GET or a C-MOVE) become files, while they arrive. */
import { createWriteStream, type WriteStream } from 'node:fs'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { finished } from 'node:stream/promises'
import dimse, { type association, type requests, type responses } from 'dcmjs-dimse'
import { AppError } from '../errors.js'
import { part10Head } from '../formats/dicom-write.js'
import type { FetchContext } from './fetch-context.js'

type CStoreRequest = requests.CStoreRequest
type PresentationContext = association.PresentationContext

const UID = /^[0-9][0-9.]{0,63}$/
/** We offer 256 KiB; some peers add a little. A longer PDU would be gathered in memory whole, by a library that copies. */
const MAX_PDU_BYTES = 4 * 1024 * 1024
const PDU_HEADER_BYTES = 6
/** Bytes on their way to the disk at which the peer has to wait, and at which it may go on. */
const HIGH_WATER_BYTES = 16 * 1024 * 1024
const LOW_WATER_BYTES = 4 * 1024 * 1024

export interface InstanceStore {
  readonly paths: readonly string[]
  /** What ended the retrieval from our side: a cap, a full disk, a peer that breaks the protocol. */
  readonly fault: unknown
  /** Hooks for a dcmjs-dimse Network: data sets go to the disk as they are, never parsed here. */
  createStoreWritableStream(context: PresentationContext, request: CStoreRequest): Writable
  createDatasetFromStoreWritableStream(
    stream: Writable,
    context: PresentationContext,
    done: (set: undefined) => void,
  ): void
  /** Waits until the instance is on the disk, then answers the peer. */
  store(request: CStoreRequest, respond: (response: responses.CStoreResponse) => void): void
  /** Counts the socket's bytes, and ends it when a PDU is longer than anything honest or when the budget is used up. */
  guard(socket: Socket): void
  /** Lets go of files that were not finished. */
  close(): void
}

/** `prefix` begins the names of its files: a C-MOVE may follow a C-GET into the same folder. */
export function createInstanceStore(context: FetchContext, prefix: string, onLife: () => void): InstanceStore {
  const paths: string[] = []
  const arriving = new Map<CStoreRequest, WriteStream>()
  const sockets = new Set<Socket>()
  let fault: unknown
  let count = 0
  let queued = 0

  const fail = (error: unknown): void => {
    fault ??= error
    for (const socket of sockets) socket.destroy()
  }
  const flushed = (bytes: number): void => {
    queued -= bytes
    if (queued <= LOW_WATER_BYTES) for (const socket of sockets) socket.resume()
  }

  return {
    paths,
    get fault() {
      return fault
    },
    createStoreWritableStream(presentation, request) {
      try {
        const head = headOf(presentation, request)
        context.budget.file()
        const path = join(context.folder, `${prefix}-${String(count++).padStart(6, '0')}`)
        const file = createWriteStream(path, { flags: 'wx' })
        file.on('error', fail)
        file.write(head)
        arriving.set(request, file)
        return new Writable({
          // It never says "wait": the library waits badly. The sockets are paused instead.
          highWaterMark: Number.MAX_SAFE_INTEGER,
          write(chunk: Buffer, _encoding, done) {
            queued += chunk.length
            file.write(chunk, () => flushed(chunk.length))
            done()
          },
          final(done) {
            file.end(done)
          },
        })
      } catch (error) {
        fail(error)
        return new Writable({ write: (_chunk, _encoding, done) => done() })
      }
    },
    createDatasetFromStoreWritableStream(_stream, _presentation, done) {
      done(undefined)
    },
    store(request, respond) {
      const file = arriving.get(request)
      if (!file) return fail(new AppError('FETCH_FAILED', 'the DICOM server announced an image and sent none'))
      finished(file)
        .then(() => {
          arriving.delete(request)
          paths.push(String(file.path))
          const response = dimse.responses.CStoreResponse.fromRequest(request)
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
          if (queued > HIGH_WATER_BYTES) socket.pause()
        } catch (error) {
          fail(error)
        }
      })
      socket.on('close', () => sockets.delete(socket))
    },
    close() {
      for (const file of arriving.values()) file.destroy()
    },
  }
}

function headOf(presentation: PresentationContext, request: CStoreRequest): Buffer {
  const uids = [
    request.getAffectedSopClassUid(),
    request.getAffectedSopInstanceUid(),
    presentation.getAcceptedTransferSyntaxUid(),
  ] as const
  const [sopClass, sopInstance, syntax] = uids
  if (syntax === undefined || !uids.every((uid) => typeof uid === 'string' && UID.test(uid)))
    throw new AppError('FETCH_FAILED', 'the DICOM server sent an image without its UIDs')
  return part10Head(sopClass, sopInstance, syntax)
}

/** Follows the framing of PDUs through the chunks of a stream; throws FETCH_FAILED at one that claims over 4 MiB. */
export function pduCheck(): (chunk: Buffer) => void {
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
      const step = chunk.copy(header, headerBytes, at, at + PDU_HEADER_BYTES - headerBytes)
      headerBytes += step
      at += step
      if (headerBytes < PDU_HEADER_BYTES) return
      headerBytes = 0
      bodyLeft = header.readUInt32BE(2)
      if (bodyLeft > MAX_PDU_BYTES)
        throw new AppError('FETCH_FAILED', 'the DICOM server breaks the protocol: a PDU is too long')
    }
  }
}
