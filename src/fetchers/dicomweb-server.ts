/**
 * The DICOMweb server of this installation (`--dicomweb-url`): its series found and listed by QIDO-RS, fetched by WADO-RS,
 * label maps stored by STOW-RS. Its own host and port may be contacted, others (it may redirect) where --allow-fetch names
 * them.
 */
import { AppError } from '../errors.js'
import { forEachConcurrently } from '../util/concurrently.js'
import { createFetchPolicy, type Lookup } from '../util/fetch-policy.js'
import { type JsonDataSet, jsonDataSets, jsonItems, jsonNumber, jsonText } from './dicom-json.js'
import { fetchDicomweb } from './dicomweb.js'
import { type FetchContext, type Fetched, type FetchLimits, withinLimits } from './fetch-context.js'
import { decoded, exchange, expectSuccess, HttpSource, toRequest } from './http-fetch.js'
import { readStowAnswer, stowBody } from './stow.js'

export interface DicomwebOptions {
  /** The service's base, the part before /studies. */
  readonly url: string
  /** The header of this name; undefined: the server asks for none. */
  readonly authorization: string | undefined
  /** The values of --allow-fetch. */
  readonly allow: readonly string[]
  readonly limits: FetchLimits
  /** Of one answer in JSON (`--dicomweb-max-answer`): it is parsed in memory. */
  readonly maxAnswerBytes: number
  /** Of one listing (`--dicomweb-max-series`). */
  readonly maxSeries: number
  /** What is listed, as QIDO-RS keys (`--dicomweb-filter`): `Modality=CT&StudyDate=20260101-`. */
  readonly filter: string
  readonly lookup?: Lookup | undefined
}

/** What QIDO-RS says of a series; texts as they came, undefined where they are not there. */
export interface SeriesFacts {
  readonly studyUid: string
  readonly seriesUid: string
  readonly modality: string | undefined
  readonly patientId: string | undefined
  readonly studyDate: string | undefined
  readonly studyTime: string | undefined
  readonly description: string | undefined
  /** Date and time of the series, to be compared as text; empty where they are not there. */
  readonly made: string
  readonly instances: number | undefined
  readonly retrieveUrl: string
}

export interface Listing {
  /** Series of images, as the server orders them. */
  readonly images: readonly SeriesFacts[]
  /** By the UID of the series that it labels: the newest segmentation that says so; undefined: one that was stored just now. */
  readonly labels: ReadonlyMap<string, SeriesFacts | undefined>
  /** False: there are more than `maxSeries`. */
  readonly complete: boolean
}

/** All reject FETCH_FAILED (the server, or its time), FETCH_FORBIDDEN, TOO_LARGE, and with the signal's reason. */
export interface DicomwebServer {
  /** What a session that was fetched from here is known by. */
  originOf(seriesUid: string): string
  /** Undefined: the server has no such series. */
  find(seriesUid: string, signal: AbortSignal): Promise<SeriesFacts | undefined>
  list(signal: AbortSignal): Promise<Listing>
  /** Into the folder, as files. Rejects FETCH_FAILED too when fewer came than the server says there are. */
  fetch(series: SeriesFacts, folder: string, signal: AbortSignal): Promise<Fetched>
  /** Stores one DICOM file. Gives notes for the user; rejects STORE_FAILED with the server's reason. */
  store(path: string, signal: AbortSignal): Promise<readonly string[]>
}

/** Series of these modalities hold no image that a model could work on (PS3.3 C.7.3.1.1.1). */
const NO_IMAGES: ReadonlySet<string> = new Set([
  ...['SEG', 'SR', 'PR', 'KO', 'DOC', 'PLAN', 'REG', 'FID', 'RWV', 'ANN', 'ASMT', 'AU', 'ECG', 'EPS', 'HD', 'RESP'],
  ...['RTSTRUCT', 'RTPLAN', 'RTRECORD', 'RTDOSE', 'RTINTENT', 'RTSEGANN', 'SMR', 'STAIN', 'M3D', 'TEXTUREMAP'],
])
/** Asked for at once: enough to be quick, and few enough for small servers, which may cap an answer lower. */
const PAGE = 200
/** Segmentations that are looked into at once. */
const LOOKS_AT_ONCE = 4
/** What a listing needs beyond the UIDs: dates and times of study and series, modality, description, URL, patient, count. */
const FIELDS = [
  '00080020',
  '00080030',
  '00080021',
  '00080031',
  '00080060',
  '0008103E',
  '00081190',
  '00100020',
  '00201209',
]
const WANTED = FIELDS.map((field) => ['includefield', field] as const)

/** Whether a client's id may be the UID of a series. */
export function isUid(id: string): boolean {
  return id.length <= 64 && /^\d+(\.\d+)+$/.test(id)
}

/** Throws RangeError for a bad `allow` rule or a URL whose host is none. */
export function createDicomwebServer(options: DicomwebOptions): DicomwebServer {
  const { allow, authorization, filter, limits, lookup, maxAnswerBytes, maxSeries } = options
  const base = options.url.replace(/\/+$/, '')
  const policy = createFetchPolicy([ownRule(base), ...allow], lookup)
  const login: Record<string, string> = authorization === undefined ? {} : { authorization }
  /** Which series a segmentation labels, by its own UID: an object never changes. */
  const sources = new Map<string, string>()

  const within = <T>(signal: AbortSignal, work: (context: FetchContext) => Promise<T>, folder = '') =>
    withinLimits({ policy, folder, limits, signal }, work)

  async function ask(path: string, params: Iterable<readonly [string, string]>, context: FetchContext) {
    const url = new URL(`${base}${path}`)
    for (const [key, value] of params) url.searchParams.append(key, value)
    const request = toRequest(
      HttpSource.parse({ url: url.href, headers: { accept: 'application/dicom+json', ...login } }),
      context,
    )
    const response = await exchange(request, context)
    const { statusCode: status = 0 } = response
    if (status === 204) {
      response.destroy()
      return []
    }
    if (status === 401 || status === 403) {
      response.destroy()
      throw notLetIn(status)
    }
    const hint = '--dicomweb-url is the base of the service, the part before /studies'
    if (status === 404) {
      response.destroy()
      throw new AppError('FETCH_FAILED', 'the DICOMweb server answers a query with 404', { hint })
    }
    expectSuccess(response)
    const found = jsonDataSets((await readJson(response, maxAnswerBytes)) ?? [])
    if (found) return found
    throw new AppError('FETCH_FAILED', 'the DICOMweb server answers a query with other JSON than that of DICOM', {
      hint,
    })
  }

  async function pages(keys: readonly (readonly [string, string])[], context: FetchContext) {
    const found = new Map<string, SeriesFacts>()
    for (let offset = 0; offset <= maxSeries; ) {
      const limit = Math.min(PAGE, maxSeries + 1 - offset)
      const page = await ask('/series', [...keys, ...WANTED, ['limit', `${limit}`], ['offset', `${offset}`]], context)
      const before = found.size
      for (const one of page.map((set) => factsOf(set, base))) if (one) found.set(one.seriesUid, one)
      // A server that knows no offset gives the same page for ever.
      if (page.length === 0 || found.size === before) break
      offset += page.length
    }
    const all = [...found.values()]
    return { all: all.slice(0, maxSeries), complete: all.length <= maxSeries }
  }

  /** The series that a segmentation was made on; undefined where neither it nor the server says so. */
  async function sourceOf({ studyUid, seriesUid }: SeriesFacts, context: FetchContext): Promise<string | undefined> {
    const known = sources.get(seriesUid)
    if (known !== undefined) return known
    const path = `/studies/${studyUid}/series/${seriesUid}`
    const query = [
      ['includefield', '00081115'],
      ['limit', '1'],
    ] as const
    try {
      // Servers need not give sequences in a query; they have to in metadata.
      const source =
        referencedSeries(await ask(`${path}/instances`, query, context)) ??
        referencedSeries(await ask(`${path}/metadata`, [], context))
      if (source !== undefined) sources.set(seriesUid, source)
      return source
    } catch (error) {
      // One object that cannot be looked into spoils no list.
      if (error instanceof AppError && !context.signal.aborted) return undefined
      throw error
    }
  }

  return {
    originOf: (seriesUid) => `dicomweb ${base} ${seriesUid}`,

    find: (seriesUid, signal) =>
      within(signal, async (context) => {
        const found = await ask('/series', [['SeriesInstanceUID', seriesUid], ...WANTED], context)
        // A server that does not know the key gives whatever it has.
        return found.map((set) => factsOf(set, base)).find((one) => one?.seriesUid === seriesUid)
      }),

    list: (signal) =>
      within(signal, async (context) => {
        const keys = [...new URLSearchParams(filter)]
        const images = await pages(keys, context)
        const others = keys.filter(([key]) => !/^(modality|00080060)$/i.test(key))
        const segmentations = await pages([...others, ['Modality', 'SEG']], context)
        const oldestFirst = segmentations.all
          .filter(({ modality }) => modality === 'SEG')
          .sort((a, b) => (a.made < b.made ? -1 : a.made > b.made ? 1 : 0))
        const labels = new Map<string, SeriesFacts>()
        const found: (string | undefined)[] = []
        await forEachConcurrently(oldestFirst, LOOKS_AT_ONCE, async (one, i) => {
          found[i] = await sourceOf(one, context)
        })
        for (const [i, one] of oldestFirst.entries()) if (found[i] !== undefined) labels.set(found[i], one)
        const listed = new Set(oldestFirst.map(({ seriesUid }) => seriesUid))
        for (const seriesUid of sources.keys()) if (!listed.has(seriesUid)) sources.delete(seriesUid)
        return {
          images: images.all.filter(({ modality }) => modality === undefined || !NO_IMAGES.has(modality)),
          labels,
          complete: images.complete && segmentations.complete,
        }
      }),

    fetch: (series, folder, signal) =>
      within(
        signal,
        async (context) => {
          const { studyUid: study_uid, seriesUid: series_uid, instances: reported } = series
          const headers = Object.keys(login).length > 0 ? { headers: login } : {}
          const fetched = await fetchDicomweb({ url: base, study_uid, series_uid, verify: true, ...headers }, context)
          if (reported !== undefined && fetched.received < reported)
            throw new AppError(
              'FETCH_FAILED',
              `the DICOMweb server sent ${fetched.received} of the ${reported} images of the series`,
            )
          return { ...fetched, ...(reported === undefined ? {} : { reported }) }
        },
        folder,
      ),

    store: (path, signal) =>
      within(signal, async (context) => {
        const { body, headers } = await stowBody(path)
        const source = HttpSource.parse({ url: `${base}/studies`, method: 'POST', headers: { ...headers, ...login } })
        const response = await exchange({ ...toRequest(source, context), body }, context)
        const { statusCode: status = 0 } = response
        if (status === 401 || status === 403) {
          response.destroy()
          throw notLetIn(status)
        }
        const answer = await readJson(response, maxAnswerBytes).catch((error: unknown) => {
          if (error instanceof NotJson) return undefined
          throw error
        })
        return readStowAnswer(status, answer)
      }),
  }
}

/** The rule that lets us contact the server itself. Throws RangeError. */
function ownRule(base: string): string {
  const { hostname, port, protocol } = new URL(base)
  return `${hostname}:${port === '' ? (protocol === 'https:' ? 443 : 80) : port}`
}

function notLetIn(status: number): AppError {
  return new AppError('FETCH_FAILED', `the DICOMweb server does not let this server in (${status})`, {
    hint: 'the operator of this server gives its login with --dicomweb-credentials',
  })
}

/** The series that the first data set with a ReferencedSeriesSequence names. */
function referencedSeries(sets: readonly JsonDataSet[]): string | undefined {
  return sets.flatMap((set) => jsonItems(set, '00081115').map((item) => jsonText(item, '0020000E'))).find(Boolean)
}

/** Undefined for a data set without the UIDs that a series has. */
function factsOf(set: JsonDataSet, base: string): SeriesFacts | undefined {
  const studyUid = jsonText(set, '0020000D')
  const seriesUid = jsonText(set, '0020000E')
  if (studyUid === undefined || seriesUid === undefined || !isUid(studyUid) || !isUid(seriesUid)) return undefined
  return {
    studyUid,
    seriesUid,
    modality: jsonText(set, '00080060'),
    patientId: jsonText(set, '00100020'),
    studyDate: jsonText(set, '00080020'),
    studyTime: jsonText(set, '00080030'),
    description: jsonText(set, '0008103E'),
    made: `${jsonText(set, '00080021') ?? ''}${jsonText(set, '00080031') ?? ''}`,
    instances: jsonNumber(set, '00201209'),
    retrieveUrl: jsonText(set, '00081190') ?? `${base}/studies/${studyUid}/series/${seriesUid}`,
  }
}

class NotJson extends AppError {}

/** The body as JSON, undefined when it is empty. Throws TOO_LARGE, and FETCH_FAILED for what is no JSON. */
async function readJson(response: Parameters<typeof decoded>[0], most: number): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of decoded(response) as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > most)
        throw new AppError('TOO_LARGE', `an answer of the DICOMweb server has over ${most} bytes`, {
          hint: 'the operator of this server can raise this limit with --dicomweb-max-answer',
        })
      chunks.push(chunk)
    }
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('FETCH_FAILED', 'the answer of the DICOMweb server broke off', { cause: error })
  } finally {
    response.destroy()
  }
  const text = Buffer.concat(chunks).toString('utf8')
  if (text.trim() === '') return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new NotJson('FETCH_FAILED', 'the DICOMweb server answered with something else than JSON', { cause })
  }
}
