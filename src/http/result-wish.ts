/** What kind of file the client wants: `output` of the query and `result_extension`, `result_dtype`, `result_compress` of params. */

import type { ResultWish } from '../contract/job.js'
import type { ResultExtension } from '../formats/format.js'
import { parseWishParams } from '../pipelines/wish-params.js'
import { type Output, wantsFile } from './reply.js'

/** Rejects BAD_PARAMS naming the key. `sessionExtension` is what a session's results get unless the request says otherwise. */
export function readWish(
  params: Readonly<Record<string, unknown>>,
  output: Output | undefined,
  sessionExtension?: ResultExtension,
): ResultWish {
  const { extension, dtype, compress } = parseWishParams(params)
  return {
    file: wantsFile(output),
    extension: extension ?? sessionExtension,
    dtype,
    compress,
    ...(output === 'dicom_seg' ? { dicomSeg: true } : {}),
  }
}
