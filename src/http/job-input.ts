/** From what a request brought to the part of a job that all jobs share. */
import type { Job, JobImage } from '../contract/job.js'
import { AppError } from '../errors.js'
import type { ReadLimits } from '../formats/format.js'
import type { Arrived } from './compute-request.js'
import type { Output } from './reply.js'
import { readWish } from './result-wish.js'
import type { HeldImage } from './session-image.js'
import { paramsOf } from './upload.js'

/**
 * Images from one source (the upload, or what `ofSession` makes of the session), the params, and what kind of file is
 * wished for. `params` are those of the upload unless the route has read them already. Rejects MISSING_IMAGE, BAD_PARAMS.
 */
export function jobInput(
  { upload, session, scope }: Arrived,
  output: Output | undefined,
  limits: ReadLimits,
  ofSession: (session: HeldImage) => JobImage,
  params: Readonly<Record<string, unknown>> = paramsOf(upload),
): Omit<Job, 'kind' | 'task'> {
  const wish = readWish(params, output, session?.meta.extension)
  const rest = { params, paramsPath: upload.paramsPath, wish, outDir: scope.folder, limits }
  const { files } = upload
  if (session === undefined) {
    if (files.length > 0) return { images: [], files, ...rest }
    throw new AppError(
      'MISSING_IMAGE',
      "the request has no image: send one as the multipart file 'image', or name a session_id",
    )
  }
  if (files.length > 0)
    throw new AppError(
      'BAD_PARAMS',
      "query parameter 'session_id': the request also uploads an image; send one or the other",
    )
  return { images: [ofSession(session)], ...rest }
}
