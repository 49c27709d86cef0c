/** POST /activelearning/{strategy}: the next image that somebody should label. */
import type { FastifyRequest } from 'fastify'
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { type Datastore, STRATEGIES, type Strategy } from '../../datastore/datastore.js'
import { AppError } from '../../errors.js'
import { refusals } from '../schemas.js'
import { fileName } from './datastore.js'

export interface NextSampleOptions {
  readonly datastore: Datastore | undefined
  /** Throws FORBIDDEN for those whom the operator keeps out. */
  readonly access: (request: FastifyRequest) => Promise<void>
}

const NextSample = z
  .object({
    id: z.string().optional().meta({ description: 'absent, as everything else: no image is left' }),
    name: z.string().optional().meta({ description: 'of the file that GET /datastore/image gives' }),
    checksum: z.string().optional().meta({ description: 'of that file: SHA256:, then hexadecimal' }),
    ts: z.int().optional().meta({ description: 'when it was stored, in seconds since 1970' }),
  })
  .meta({ id: 'NextSample' })

export const nextSampleRoutes: FastifyPluginAsyncZod<NextSampleOptions> = async (app, { datastore, access }) => {
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
        response: { 200: NextSample, ...refusals(400, 403, 404) },
      },
    },
    async (request) => {
      if (!datastore) throw new AppError('NOT_FOUND', 'this server keeps no datastore, so it has no next image')
      await access(request)
      const { strategy } = request.params
      if (!Object.hasOwn(STRATEGIES, strategy))
        throw new AppError('NOT_FOUND', `there is no strategy '${strategy.slice(0, 80)}'`, {
          hint: `there are ${Object.keys(STRATEGIES).join(', ')}`,
        })
      const item = datastore.next(strategy as Strategy)
      if (!item) return {}
      const { file, sha256 } = item.image.source
      const extension = file.slice(file.indexOf('.'))
      return {
        id: item.id,
        name: `${fileName(item.id, extension)}${extension}`,
        checksum: `SHA256:${sha256}`,
        ts: Math.floor(item.image.createdAt / 1000),
      }
    },
  )
}
