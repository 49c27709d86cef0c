/** A request computes on what it uploads or on a session's image: on one of them, and not on both. */

import type { JobImage } from '../contract/job.js'
import { AppError } from '../errors.js'
import type { HeldSession } from '../sessions/sessions.js'

/** The uploaded images, or what `ofSession` makes of the session. Rejects MISSING_IMAGE for neither, BAD_PARAMS for both. */
export function imagesFromOneSource(
  uploaded: readonly JobImage[],
  session: HeldSession | undefined,
  ofSession: (session: HeldSession) => JobImage,
): readonly JobImage[] {
  if (session === undefined) {
    if (uploaded.length > 0) return uploaded
    throw new AppError(
      'MISSING_IMAGE',
      "the request has no image: send one as the multipart file 'image', or name a session_id",
    )
  }
  if (uploaded.length > 0)
    throw new AppError(
      'BAD_PARAMS',
      "query parameter 'session_id': the request also uploads an image; send one or the other",
    )
  return [ofSession(session)]
}
