/** Series of the DICOMweb service as stored images: fetched once, kept as a session, found again by their UID. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../../errors.js'
import type { DicomwebServer } from '../../fetchers/dicomweb-server.js'
import type { ReadLimits } from '../../formats/format.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import type { Sessions } from '../../sessions/sessions.js'
import { untilAborted } from '../../util/until-aborted.js'
import type { Call } from '../compute-request.js'
import { ingestImage } from '../ingest-image.js'
import type { RequestScope } from '../request-scope.js'
import type { HeldImage } from '../session-image.js'
import { seriesInfo } from './catalogue.js'

export interface SeriesImagesOptions {
  readonly server: Pick<DicomwebServer, 'originOf' | 'find' | 'fetch'>
  readonly sessions: Pick<Sessions, 'create' | 'hold' | 'holdOrigin'>
  readonly scheduler: Pick<Scheduler, 'runTool'>
  readonly readLimits: ReadLimits
}

export interface SeriesImages {
  /**
   * The series, held until it is released. What the service says of it is among the facts of its image. Rejects
   * NO_IMAGES_FOUND where the service has none of this UID, FETCH_FAILED, and what the reader refuses.
   */
  hold(seriesUid: string, scope: RequestScope, call: Call): Promise<HeldImage>
}

export function createSeriesImages({ server, sessions, scheduler, readLimits }: SeriesImagesOptions): SeriesImages {
  /** Series on their way: each is fetched by the request that asked first, in that request's time and folder. */
  const fetching = new Map<string, Promise<unknown>>()

  async function fetchSession(seriesUid: string, { folder }: RequestScope, call: Call): Promise<string> {
    const series = await server.find(seriesUid, call.signal)
    if (!series)
      throw new AppError('NO_IMAGES_FOUND', "query parameter 'image': the DICOMweb service has no series of this UID")
    const [fetchedTo, outDir] = [join(folder, 'fetched'), join(folder, 'series-session')]
    await mkdir(fetchedTo)
    await mkdir(outDir)
    const { paths, received, reported, notes } = await server.fetch(series, fetchedTo, call.signal)
    const job = { images: [{ field: 'image', paths }], outDir, limits: readLimits }
    const ingested = await ingestImage(scheduler, job, call, notes)
    const { meta } = await sessions.create({
      ...ingested,
      image: { ...ingested.image, ...seriesInfo(series) },
      received: { files: received, announced: reported },
      origin: server.originOf(seriesUid),
    })
    return meta.id
  }

  return {
    async hold(seriesUid, scope, call) {
      for (;;) {
        const held = await sessions.holdOrigin(server.originOf(seriesUid))
        if (held) return held
        const underWay = fetching.get(seriesUid)
        if (!underWay) {
          const own = fetchSession(seriesUid, scope, call).finally(() => fetching.delete(seriesUid))
          fetching.set(seriesUid, own)
          return sessions.hold(await own)
        }
        try {
          await untilAborted(underWay, call.signal)
        } catch (error) {
          // Whoever fetched it has left: then it is this request's turn.
          if (call.signal.aborted || !isLeaving(error)) throw error
        }
      }
    },
  }
}

function isLeaving(error: unknown): boolean {
  return error instanceof AppError && ['CANCELLED', 'DEADLINE_EXCEEDED'].includes(error.code)
}
