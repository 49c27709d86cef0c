/** A series behind a DICOMweb service: `{"dicomweb": {...}}`, WADO-RS (PS3.18 section 10.4), streamed to files. */
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { z } from 'zod'
import { AppError } from '../errors.js'
import type { FetchContext, Fetched } from './fetch-context.js'
import { decoded, exchange, expectSuccess, HttpSource, saveCapped, toRequest } from './http-fetch.js'
import { boundaryOf, multipartParts } from './multipart-related.js'

const Uid = z.string().regex(/^[0-9][0-9.]{0,63}$/, { error: 'must be a DICOM UID' })

export const DicomwebSource = z.strictObject({
  /** The service's base, the part before /studies. */
  url: z.string().max(4096),
  study_uid: Uid,
  series_uid: Uid,
  headers: HttpSource.shape.headers,
  auth: HttpSource.shape.auth,
  timeout: HttpSource.shape.timeout,
  verify: HttpSource.shape.verify,
})
export type DicomwebSource = z.infer<typeof DicomwebSource>

/** Fetches every instance of the series, in the transfer syntax the service keeps it in. Throws NO_IMAGES_FOUND. */
export async function fetchDicomweb(source: DicomwebSource, context: FetchContext): Promise<Fetched> {
  const { study_uid, series_uid, headers, auth, timeout, verify } = source
  const url = `${source.url.replace(/\/+$/, '')}/studies/${study_uid}/series/${series_uid}`
  const accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
  const request = toRequest(HttpSource.parse({ url, headers: { accept, ...headers }, auth, timeout, verify }), context)
  const response = await exchange(request, context)
  if (response.statusCode === 404 || response.statusCode === 204) {
    response.destroy()
    throw noImages()
  }
  expectSuccess(response)
  const type = response.headers['content-type'] ?? ''
  const boundary = boundaryOf(type)
  if (!/^multipart\/related/i.test(type) || !boundary) {
    response.destroy()
    throw new AppError('FETCH_FAILED', 'the DICOMweb server did not answer with multipart/related', {
      hint: "dicomweb.url is the service's base, the part before /studies.",
    })
  }
  const paths: string[] = []
  try {
    for await (const part of multipartParts(decoded(response), boundary)) {
      context.budget.file()
      const path = join(context.folder, `instance-${String(paths.length).padStart(6, '0')}`)
      await saveCapped(Readable.from(part, { objectMode: false }), path, context)
      paths.push(path)
    }
  } finally {
    response.destroy()
  }
  if (paths.length === 0) throw noImages()
  return { paths, received: paths.length, notes: [] }
}

function noImages(): AppError {
  return new AppError('NO_IMAGES_FOUND', 'the DICOMweb server has no such series')
}
