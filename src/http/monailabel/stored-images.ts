/** Images that a client names instead of sending them: those of the datastore, and series of the DICOMweb service. */
import type { FastifyRequest } from 'fastify'
import type { Datastore } from '../../datastore/datastore.js'
import { AppError } from '../../errors.js'
import { isUid } from '../../fetchers/dicomweb-server.js'
import type { Call } from '../compute-request.js'
import type { RequestScope } from '../request-scope.js'
import type { HeldImage } from '../session-image.js'
import type { SeriesImages } from './series-images.js'

export interface StoredImagesOptions {
  readonly datastore: Pick<Datastore, 'find' | 'hold'> | undefined
  readonly series: SeriesImages | undefined
  /** Throws FORBIDDEN for those whom the operator keeps out: machines by their address, pages by their origin. */
  readonly access: (request: FastifyRequest) => Promise<void>
}

export interface StoredImages {
  /** Throws NOT_FOUND where this server stores and fetches none, FORBIDDEN for who may not. */
  check(request: FastifyRequest): Promise<void>
  /** Whether the datastore has it, or else the service may. */
  isKept(id: string): boolean
  /** Rejects as `check`, as Datastore.hold and as SeriesImages.hold. */
  hold(request: FastifyRequest, id: string, scope: RequestScope, call: Call): Promise<HeldImage>
}

export function createStoredImages({ datastore, series, access }: StoredImagesOptions): StoredImages {
  const check = async (request: FastifyRequest) => {
    if (!datastore && !series)
      throw new AppError('NOT_FOUND', 'this server keeps no images by name', {
        hint: 'send the image with the request, or create a session; the operator turns names on with --datastore or --dicomweb-url',
      })
    await access(request)
  }
  const isKept = (id: string) => datastore !== undefined && (datastore.find(id) !== undefined || !series || !isUid(id))
  return {
    check,
    isKept,
    async hold(request, id, scope, call) {
      await check(request)
      if (datastore && isKept(id)) return datastore.hold(id)
      if (series && isUid(id)) return series.hold(id, scope, call)
      throw new AppError('NOT_FOUND', "query parameter 'image': this is no SeriesInstanceUID", {
        hint: 'images of this server are the series of its DICOMweb service',
      })
    },
  }
}
