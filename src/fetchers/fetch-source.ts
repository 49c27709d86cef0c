/** The one door: what a session's JSON body names -> files of one image in the request's folder. */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { createFetchPolicy, type Lookup } from '../util/fetch-policy.js'
import { DicomSource } from './dicom-source.js'
import { DicomwebSource, fetchDicomweb } from './dicomweb.js'
import type { DimseOptions, FetchDicom } from './dimse.js'
import { type Fetched, type FetchLimits, withinLimits } from './fetch-context.js'
import { fetchHttp, HttpSource } from './http-fetch.js'

export interface FetchSettings {
  /** The values of --allow-fetch; none: fetching is off. */
  readonly allow: readonly string[]
  readonly limits: FetchLimits
  readonly dicom: DimseOptions
  /** How names become addresses; the system's way unless told otherwise. */
  readonly lookup?: Lookup | undefined
}

export type FetchSource = (
  body: Readonly<Record<string, unknown>>,
  folder: string,
  signal: AbortSignal,
) => Promise<Fetched>

const Body = z.union([
  z.strictObject({ dicom: z.unknown() }),
  z.strictObject({ dicomweb: z.unknown() }),
  z.strictObject({ http: z.unknown() }),
])

/**
 * Throws RangeError for a bad `allow` rule. What it gives fetches one `{"dicom"|"dicomweb"|"http": {...}}`; errors:
 * BAD_PARAMS, FETCH_FORBIDDEN, FETCH_FAILED (the peer, or its time), NO_IMAGES_FOUND, TOO_LARGE.
 */
export function createFetchSource({ allow, limits, dicom, lookup }: FetchSettings): FetchSource {
  const policy = createFetchPolicy(allow, lookup)
  let dimse: Promise<FetchDicom> | undefined
  // Loaded when somebody asks for it: a server starts faster without.
  const fetchDicom: FetchDicom = async (source, context) => {
    dimse ??= import('./dimse.js').then(({ createDimse }) => createDimse(dicom))
    return (await dimse)(source, context)
  }
  return async (body, folder, signal) => {
    if (!Body.safeParse(body).success)
      throw new AppError('BAD_PARAMS', 'the body must have exactly one of dicom, dicomweb and http')
    return withinLimits({ policy, folder, limits, signal }, (context) => {
      if ('dicom' in body) return fetchDicom(parse(DicomSource, 'dicom', body.dicom), context)
      if ('dicomweb' in body) return fetchDicomweb(parse(DicomwebSource, 'dicomweb', body.dicomweb), context)
      return fetchHttp(parse(HttpSource, 'http', body.http), context)
    })
  }
}

function parse<S extends z.ZodType>(schema: S, name: string, value: unknown): z.output<S> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issues = parsed.error.issues.map((issue) => `${[name, ...issue.path].join('.')}: ${issue.message}`)
  throw new AppError('BAD_PARAMS', issues.slice(0, 5).join('; ').slice(0, 600))
}
