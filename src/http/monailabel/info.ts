/** GET /info/: what MONAI Label's clients ask before anything else. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { Datastore } from '../../datastore/datastore.js'
import { STRATEGIES } from '../../datastore/strategies.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { Dicomweb } from '../../services.js'
import { catalogue, countsOf } from './catalogue.js'
import { MonaiModel, monaiModels } from './models.js'

export interface InfoOptions {
  readonly version: string
  readonly registry: Pick<ModelRegistry, 'list'>
  readonly datastore: Pick<Datastore, 'list'> | undefined
  readonly dicomweb: Pick<Dicomweb, 'index'> | undefined
}

const nothing = (description: string) => z.record(z.string(), z.unknown()).meta({ description })

/** No `config`: 3D Slicer takes one at this level for a server that is too old. */
const MonaiInfo = z
  .object({
    name: z.string(),
    description: z.string(),
    version: z.string(),
    labels: z.array(z.string()).meta({ description: 'of all models' }),
    models: z.record(z.string(), MonaiModel),
    trainers: nothing('empty: training is not offered'),
    strategies: z
      .record(z.string(), z.object({ description: z.string() }))
      .meta({ description: 'ways to choose the next image; none without images by name' }),
    scoring: nothing('empty'),
    train_stats: nothing('empty'),
    datastore: z.object({
      total: z.int().meta({ description: 'images' }),
      completed: z.int().meta({ description: 'images with a final label' }),
    }),
  })
  .meta({ id: 'MonaiInfo' })

const STRATEGY_INFO = Object.fromEntries(
  Object.entries(STRATEGIES).map(([name, description]) => [name, { description }]),
)

export const infoRoutes: FastifyPluginAsyncZod<InfoOptions> = async (app, options) => {
  const { version, registry, datastore, dicomweb } = options
  app.get(
    '/info',
    {
      schema: {
        operationId: 'getMonaiInfo',
        tags: ['monailabel'],
        summary: 'What this server offers, as MONAI Label says it',
        response: { 200: MonaiInfo },
      },
    },
    async () => {
      const models = monaiModels(registry.list())
      return {
        name: 'Aidant',
        description: 'AI-assisted annotation of medical images',
        version,
        labels: [...new Set(Object.values(models).flatMap(({ labels }) => Object.keys(labels)))],
        models,
        trainers: {},
        strategies: datastore || dicomweb ? STRATEGY_INFO : {},
        scoring: {},
        train_stats: {},
        // The service is not waited for: a viewer asks this all the time.
        datastore: countsOf(catalogue(datastore, dicomweb?.index.known())),
      }
    },
  )
}
