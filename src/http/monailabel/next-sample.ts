/** POST /activelearning/{strategy}: the next image that somebody should label. */
import { randomInt } from 'node:crypto'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Datastore } from '../../datastore/datastore.js'
import { chooseNext, STRATEGIES, type Strategy } from '../../datastore/strategies.js'
import { AppError } from '../../errors.js'
import type { Dicomweb } from '../../services.js'
import { refusals } from '../schemas.js'
import { catalogue, type Listed, seriesInfo } from './catalogue.js'
import { fileName, imageSuffix, isSeries, SERIES_SUFFIX } from './file-name.js'
import type { StoredImages } from './stored-images.js'

export interface NextSampleOptions {
  readonly datastore: Pick<Datastore, 'list'> | undefined
  readonly dicomweb: Pick<Dicomweb, 'index'> | undefined
  readonly images: Pick<StoredImages, 'check'>
}

const text = z.string().optional()
const NextSample = z
  .object({
    id: text.meta({ description: 'absent, as everything else: no image is left' }),
    name: text.meta({ description: 'of the file that GET /datastore/image gives' }),
    checksum: text.meta({ description: 'of that file: SHA256:, then hexadecimal; absent for a DICOM series' }),
    ts: z.int().optional().meta({ description: 'when it was stored, in seconds since 1970' }),
    Modality: text,
    PatientID: text,
    StudyDate: text,
    StudyTime: text,
    SeriesDescription: text,
    StudyInstanceUID: text.meta({ description: 'this and those beside it: of a series of the DICOMweb service' }),
    SeriesInstanceUID: text,
    RetrieveURL: text.meta({ description: 'as the DICOMweb service says it' }),
  })
  .meta({ id: 'NextSample' })

/** What is said of a series, where it is said in words. */
const word = z.string().optional().catch(undefined)
const SeriesWords = z.object({
  Modality: word,
  PatientID: word,
  StudyDate: word,
  StudyTime: word,
  SeriesDescription: word,
  StudyInstanceUID: word,
  SeriesInstanceUID: word,
  RetrieveURL: word,
})

export const nextSampleRoutes: FastifyPluginAsyncZod<NextSampleOptions> = async (app, options) => {
  const { datastore, dicomweb, images } = options
  app.post(
    '/activelearning/:strategy',
    {
      schema: {
        operationId: 'nextMonaiSample',
        tags: ['monailabel'],
        summary: 'The next image to label',
        description: Object.entries(STRATEGIES)
          .map(([name, about]) => `${name}: ${about}`)
          .join('; '),
        params: z.object({ strategy: z.string().meta({ description: Object.keys(STRATEGIES).join(', ') }) }),
        response: { 200: NextSample, ...refusals(400, 403, 404, 413, 499, 502) },
      },
    },
    async (request) => {
      await images.check(request)
      const { strategy } = request.params
      if (!Object.hasOwn(STRATEGIES, strategy))
        throw new AppError('NOT_FOUND', `there is no strategy '${strategy.slice(0, 80)}'`, {
          hint: `there are ${Object.keys(STRATEGIES).join(', ')}`,
        })
      const listing = await dicomweb?.index.list()
      const next = chooseNext(strategy as Strategy, catalogue(datastore, listing), randomInt)
      return next ? sampleOf(next) : {}
    },
  )
}

function sampleOf({ id, item, series }: Listed): z.infer<typeof NextSample> {
  const words = SeriesWords.parse(series ? seriesInfo(series) : (item?.image.image ?? {}))
  const extension = item ? imageSuffix(item.image) : SERIES_SUFFIX
  const checksum = item && !isSeries(item.image.image) ? { checksum: `SHA256:${item.image.source.sha256}` } : {}
  return {
    id,
    name: `${fileName(id, extension)}${extension}`,
    ...checksum,
    ...(item ? { ts: Math.floor(item.image.createdAt / 1000) } : {}),
    ...(words.StudyInstanceUID === undefined ? {} : words),
  }
}
