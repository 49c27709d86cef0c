/**
 * Images from a DICOM server: `{"dicom": {...}}`. C-GET first; where that brings nothing, C-MOVE to a storage service of
 * our own that listens only while it runs.
 */
import { createServer, type Server, type Socket } from 'node:net'
import { type ConnectionOptions, checkServerIdentity, type TLSSocket } from 'node:tls'
import dimse, { type association, type requests, type responses } from 'dcmjs-dimse'
import { AppError } from '../errors.js'
import { SUPPORTED_TRANSFER_SYNTAXES } from '../formats/dicom-pixels.js'
import type { Endpoint } from '../util/fetch-policy.js'
import { plainAddress } from '../util/ip-address.js'
import { untilAborted } from '../util/until-aborted.js'
import type { DicomSource } from './dicom-source.js'
import { createInstanceStore, type InstanceStore } from './dimse-store.js'
import type { FetchContext, Fetched } from './fetch-context.js'

export interface DimseOptions {
  readonly aeTitle: string
  /** Where C-MOVE sends to; 0: no C-MOVE. */
  readonly scpPort: number
  /** For sources that ask for TLS: our certificate and whom we trust. */
  readonly tls?: Pick<ConnectionOptions, 'key' | 'cert' | 'ca' | 'rejectUnauthorized'> | undefined
}

export type FetchDicom = (source: DicomSource, context: FetchContext) => Promise<Fetched>

const PATIENT_ROOT_MOVE = '1.2.840.10008.5.1.4.1.2.1.2'
const PATIENT_ROOT_GET = '1.2.840.10008.5.1.4.1.2.1.3'
/** Offered for C-GET in compressed form as well; a C-GET can carry 128 contexts, and all classes uncompressed take 60. */
const OFTEN_COMPRESSED: readonly string[] = [
  '1.2.840.10008.5.1.4.1.1.2', // CT
  '1.2.840.10008.5.1.4.1.1.2.1', // enhanced CT
  '1.2.840.10008.5.1.4.1.1.4', // MR
  '1.2.840.10008.5.1.4.1.1.4.1', // enhanced MR
  '1.2.840.10008.5.1.4.1.1.128', // PET
  '1.2.840.10008.5.1.4.1.1.1', // CR
  '1.2.840.10008.5.1.4.1.1.1.1', // DX
  '1.2.840.10008.5.1.4.1.1.7', // secondary capture
]
const COMPRESSED: readonly string[] = [
  '1.2.840.10008.1.2.4.90',
  '1.2.840.10008.1.2.4.91',
  '1.2.840.10008.1.2.4.70',
  '1.2.840.10008.1.2.4.80',
  '1.2.840.10008.1.2.5',
  '1.2.840.10008.1.2.4.50',
  '1.2.840.10008.1.2.4.57',
  '1.2.840.10008.1.2.4.51',
]
/** The library's own timers are a last resort behind ours. */
const NEVER_MS = 24 * 3600 * 1000
/** For a peer's goodbye, once everything has arrived. */
const RELEASE_MS = 2000
/** Of our own storage service at once; a server uses one or a few per C-MOVE. */
const MAX_STORE_CONNECTIONS = 16

/** One per server: C-MOVEs take turns, because they share a port and a peer does not say for whom it stores. */
export function createDimse(options: DimseOptions): FetchDicom {
  dimse.log.setLevel('silent')
  let turn: Promise<unknown> = Promise.resolve()
  return async (source, context) => {
    const query = toQuery(source)
    const endpoint = await untilAborted(context.policy.admit(source.server_address, source.server_port), context.signal)
    const got = await retrieve('C-GET', source, query, endpoint, options, context)
    if (complete(got)) return toFetched(got, query)
    if (options.scpPort > 0) {
      const move = () => retrieve('C-MOVE', source, query, endpoint, options, context)
      const moving = turn.then(move, move)
      turn = moving.catch(() => {})
      const moved = await moving
      if (moved.paths.length > 0) return toFetched(moved, query)
    }
    if (got.paths.length > 0) return toFetched(got, query)
    const how = got.status === undefined ? 'does not offer C-GET' : `answered C-GET with status ${hex(got.status)}`
    throw new AppError('NO_IMAGES_FOUND', `the DICOM server sent no images for this query; it ${how}`, {
      hint:
        options.scpPort > 0
          ? 'Check the identifiers, and that the server knows our AE title, address and --dicom-port.'
          : 'Check the identifiers. A server without C-GET needs --dicom-port, so that it can be asked to C-MOVE.',
    })
  }
}

interface Query {
  readonly patientRoot: boolean
  readonly keys: Readonly<Record<string, string>>
}

/** The narrowest question the identifiers allow: a series named in a PATIENT level query is asked for as a series. */
function toQuery({ query_level, patient_id, study_uid, series_uid }: DicomSource): Query {
  const missing = { PATIENT: patient_id, STUDY: study_uid, SERIES: series_uid }[query_level] === undefined
  if (missing) {
    const name = { PATIENT: 'patient_id', STUDY: 'study_uid', SERIES: 'series_uid' }[query_level]
    throw new AppError('BAD_PARAMS', `dicom.query_level ${query_level} needs dicom.${name}`)
  }
  const level = series_uid ? 'SERIES' : study_uid ? 'STUDY' : 'PATIENT'
  const patientRoot = patient_id !== undefined && (query_level === 'PATIENT' || study_uid === undefined)
  return {
    patientRoot,
    keys: {
      QueryRetrieveLevel: level,
      ...(patientRoot ? { PatientID: patient_id } : {}),
      ...(study_uid ? { StudyInstanceUID: study_uid } : {}),
      ...(series_uid ? { SeriesInstanceUID: series_uid } : {}),
    },
  }
}

interface Retrieved {
  readonly paths: readonly string[]
  /** Of the last response; undefined when the peer did not accept the question at all. */
  readonly status: number | undefined
  readonly completed: number
  readonly failed: number
}

function complete({ paths, failed, completed }: Retrieved): boolean {
  return paths.length > 0 && failed === 0 && paths.length >= completed
}

/** A series with slices missing is refused; of a study or a patient, whatever arrived is taken, with a note. */
function toFetched({ paths, failed, completed }: Retrieved, { keys }: Query): Fetched {
  const reported = Math.max(paths.length, completed + failed)
  if (reported === paths.length) return { paths, received: paths.length, reported, notes: [] }
  const words = `${paths.length} of the ${reported} images that the DICOM server reported arrived`
  if (keys.QueryRetrieveLevel === 'SERIES')
    throw new AppError('FETCH_FAILED', `only ${words}`, { hint: 'Try again, or ask the operator of the DICOM server.' })
  return { paths, received: paths.length, reported, notes: [words] }
}

async function retrieve(
  kind: 'C-GET' | 'C-MOVE',
  source: DicomSource,
  query: Query,
  endpoint: Endpoint,
  options: DimseOptions,
  context: FetchContext,
): Promise<Retrieved> {
  const title = source.calling_ae_title ?? options.aeTitle
  const life = createLifeSign(context.limits.silenceSeconds, endpoint.host)
  const store = createInstanceStore(context, kind.toLowerCase(), life.touch)
  const service = kind === 'C-MOVE' ? await listen(options.aeTitle, store, endpoint, options, context) : undefined
  try {
    const request = kind === 'C-GET' ? getRequest(query) : moveRequest(query, options.aeTitle)
    const answer = await converse(request, kind, source, title, endpoint, store, life, options, context)
    return { ...answer, paths: store.paths }
  } finally {
    life.end()
    store.close()
    service?.close()
  }
}

type RetrieveRequest = requests.CGetRequest | requests.CMoveRequest

function getRequest({ keys, patientRoot }: Query): RetrieveRequest {
  const request = new dimse.requests.CGetRequest()
  request.setAddStorageSopClassesToAssociation(true)
  if (patientRoot) request.setAffectedSopClassUid(PATIENT_ROOT_GET)
  request.setDataset(new dimse.Dataset({ ...keys }))
  return request
}

/** The images go to us: a client that could name another destination would have the server send them anywhere it knows. */
function moveRequest({ keys, patientRoot }: Query, destination: string): RetrieveRequest {
  const request = new dimse.requests.CMoveRequest()
  if (patientRoot) request.setAffectedSopClassUid(PATIENT_ROOT_MOVE)
  request.setDataset(new dimse.Dataset({ ...keys }))
  request.getCommandDataset().setElement('MoveDestination', destination)
  return request
}

/** What the client keeps to itself: its connection, which exists once `send` has returned. */
interface ClientInside {
  readonly network: {
    readonly socket: Socket
    createStoreWritableStream: InstanceStore['createStoreWritableStream']
    createDatasetFromStoreWritableStream: InstanceStore['createDatasetFromStoreWritableStream']
  }
}

/** One association: ask, take what comes, say goodbye. Resolves when the connection is over. */
function converse(
  request: RetrieveRequest,
  kind: 'C-GET' | 'C-MOVE',
  source: DicomSource,
  title: string,
  endpoint: Endpoint,
  store: InstanceStore,
  life: LifeSign,
  options: DimseOptions,
  context: FetchContext,
): Promise<Omit<Retrieved, 'paths'>> {
  return new Promise((resolve, reject) => {
    const client = new dimse.Client()
    client.addRequest(request)
    if (kind === 'C-GET') {
      for (const sopClass of OFTEN_COMPRESSED) {
        for (const syntax of COMPRESSED)
          client.addAdditionalPresentationContext(new dimse.association.PresentationContext(0, sopClass, syntax), true)
      }
    }
    let answer: { status: number | undefined; completed: number; failed: number; final: boolean } | undefined
    let accepted = false
    let failure: unknown
    request.on('response', (response: responses.CGetResponse | responses.CMoveResponse) => {
      const final = response.getStatus() !== dimse.constants.Status.Pending
      answer = {
        status: response.getStatus(),
        completed: (response.getCompleted() ?? 0) + (response.getWarnings() ?? 0),
        failed: response.getFailures() ?? 0,
        final,
      }
      if (final) setTimeout(() => socket.destroy(), RELEASE_MS).unref()
    })
    client.on('associationAccepted', () => {
      accepted = true
    })
    client.on('associationRejected', () => {
      failure ??= new AppError('FETCH_FAILED', `${endpoint.host} refused the association`, {
        hint: 'Check ae_title and calling_ae_title with the operator of the DICOM server.',
      })
    })
    client.on('cStoreRequest', store.store)
    client.on('networkError', (error: Error) => {
      failure ??= new AppError('FETCH_FAILED', faultWords(error, endpoint), { cause: error })
      socket.destroy()
    })
    client.send(endpoint.address, endpoint.port, title, source.ae_title, {
      connectTimeout: NEVER_MS,
      associationTimeout: NEVER_MS,
      pduTimeout: NEVER_MS,
      // Checked below instead: the library would compare the certificate with the address, not with the name.
      ...(source.tls ? { securityOptions: { ...options.tls, rejectUnauthorized: false } as object } : {}),
    })
    const { network } = client as unknown as ClientInside
    const socket = network.socket
    network.createStoreWritableStream = store.createStoreWritableStream
    network.createDatasetFromStoreWritableStream = store.createDatasetFromStoreWritableStream
    store.guard(socket)
    if (source.tls && options.tls?.rejectUnauthorized !== false) {
      socket.prependListener('secureConnect', () => {
        failure ??= certificateFault(socket as TLSSocket, endpoint)
        if (failure !== undefined) socket.destroy()
      })
    }
    const giveUp = () => {
      failure ??= context.signal.reason
      socket.destroy()
    }
    life.onSilence((silence) => {
      failure ??= silence
      socket.destroy()
    })
    context.signal.addEventListener('abort', giveUp, { once: true })
    if (context.signal.aborted) giveUp()
    socket.on('close', () => {
      context.signal.removeEventListener('abort', giveUp)
      if (store.fault !== undefined) return reject(store.fault)
      if (answer?.final) return resolve(answer)
      if (failure !== undefined) return reject(failure)
      // An association without our question among its contexts ends politely and without an answer.
      if (accepted && !answer) return resolve({ status: undefined, completed: 0, failed: 0 })
      reject(new AppError('FETCH_FAILED', `${endpoint.host} ended the connection before all images had come`))
    })
  })
}

/** The chain must be trusted, and the certificate be for the name that the client gave. */
function certificateFault(socket: TLSSocket, { host }: Endpoint): AppError | undefined {
  const { authorizationError } = socket
  const chain = socket.authorized || String(authorizationError) === 'ERR_TLS_CERT_ALTNAME_INVALID'
  const name = checkServerIdentity(host, socket.getPeerCertificate())
  if (chain && !name) return undefined
  return new AppError('FETCH_FAILED', `${host}: the TLS certificate is not trusted`, {
    hint: 'The operator names the certificates to trust with --dicom-tls-ca.',
    cause: name ?? authorizationError,
  })
}

function faultWords(error: Error, { host }: Endpoint): string {
  if (/ECONNREFUSED/.test(error.message)) return `${host} refused the connection`
  if (/EHOSTUNREACH|ENETUNREACH|ETIMEDOUT/.test(error.message)) return `${host} cannot be reached`
  if (/certificate|TLS|SSL/i.test(error.message)) return `${host}: the TLS certificate or handshake failed`
  return `the connection to ${host} broke off`
}

/** A storage service for one C-MOVE. Only the machine that was asked, or one an address rule names, may store. */
async function listen(
  title: string,
  store: InstanceStore,
  endpoint: Endpoint,
  { scpPort }: DimseOptions,
  { policy }: FetchContext,
): Promise<{ close(): void }> {
  class MoveScp extends dimse.Scp {
    override createStoreWritableStream = store.createStoreWritableStream
    override createDatasetFromStoreWritableStream = store.createDatasetFromStoreWritableStream as never

    override associationRequested(asked: association.Association): void {
      if (asked.getCalledAeTitle().trim() !== title.trim()) {
        this.sendAssociationReject(
          dimse.constants.RejectResult.Permanent,
          dimse.constants.RejectSource.ServiceUser,
          dimse.constants.RejectReason.CalledAeNotRecognized,
        )
        return
      }
      for (const { context } of asked.getPresentationContexts()) answerContext(context)
      this.sendAssociationAccept()
    }

    override associationReleaseRequested(): void {
      this.sendAssociationReleaseResponse()
    }

    override cStoreRequest = store.store
  }
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    if (sockets.size >= MAX_STORE_CONNECTIONS || !mayStore(socket.remoteAddress ?? '', endpoint, policy)) {
      socket.destroy()
      return
    }
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    const scp = new MoveScp(socket, { connectTimeout: NEVER_MS, associationTimeout: NEVER_MS, pduTimeout: NEVER_MS })
    scp.on('networkError', () => socket.destroy())
    store.guard(socket)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new AppError('FETCH_FAILED', `the port ${scpPort} for C-MOVE cannot be opened`, { cause })),
    )
    server.listen(scpPort, resolve)
  })
  return {
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

function mayStore(address: string, endpoint: Endpoint, policy: FetchContext['policy']): boolean {
  const plain = plainAddress(address)
  return plain === endpoint.address || policy.namesAddress(plain)
}

function answerContext(context: association.PresentationContext): void {
  const { Accept, RejectAbstractSyntaxNotSupported, RejectTransferSyntaxesNotSupported } =
    dimse.constants.PresentationContextResult
  const abstract = context.getAbstractSyntaxUid()
  if (abstract !== dimse.constants.SopClass.Verification && !abstract.startsWith('1.2.840.10008.5.1.4.1.1.')) {
    context.setResult(RejectAbstractSyntaxNotSupported)
    return
  }
  // As stored first: the peer lists its own preference first, and whatever comes is decoded here anyway.
  const syntax = context.getTransferSyntaxUids().find((uid) => SUPPORTED_TRANSFER_SYNTAXES.includes(uid))
  if (syntax) context.setResult(Accept, syntax)
  else context.setResult(RejectTransferSyntaxesNotSupported)
}

interface LifeSign {
  touch(): void
  onSilence(then: (silence: AppError) => void): void
  end(): void
}

/** Fires once when nothing has been heard for so long, from connecting on. */
function createLifeSign(seconds: number, host: string): LifeSign {
  let tell: (silence: AppError) => void = () => {}
  const timer = setTimeout(() => {
    tell(new AppError('FETCH_FAILED', `${host} was silent for ${seconds} s`))
  }, seconds * 1000)
  return {
    touch: () => timer.refresh(),
    onSilence(then) {
      tell = then
    },
    end: () => clearTimeout(timer),
  }
}

const hex = (status: number): string => status.toString(16).padStart(4, '0')
