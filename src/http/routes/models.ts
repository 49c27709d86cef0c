/** GET /v1/models: what every client asks first. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import { AppError } from '../../errors.js'
import type { ModelRegistry } from '../../registry/registry.js'
import type { Scheduler } from '../../scheduler/scheduler.js'
import { ModelInfo, modelInfo } from '../model-info.js'
import { refusals } from '../schemas.js'

export interface ModelRouteOptions {
  readonly registry: Pick<ModelRegistry, 'list' | 'get'>
  readonly scheduler: Pick<Scheduler, 'status'>
}

const ModelsQuery = z.object({
  model: z.string().optional().meta({ description: 'one model by name: the reply is then that object, not an array' }),
  label: z.string().optional().meta({
    description:
      'only models that find this label, whatever its case; models for clicks or extreme points without labels find each',
  }),
  type: z.string().optional().meta({
    description: 'only models of this type: segmentation, annotation, classification, deepgrow, others or pipeline',
  }),
})

export const modelRoutes: FastifyPluginAsyncZod<ModelRouteOptions> = async (app, { registry, scheduler }) => {
  app.get(
    '/v1/models',
    {
      schema: {
        operationId: 'listModels',
        tags: ['models'],
        summary: 'Models that can be used, or one of them',
        description:
          'An array, or with `model` a single object. `label` and `type` may be combined; an empty value filters nothing.',
        querystring: ModelsQuery,
        response: { 200: z.union([z.array(ModelInfo), ModelInfo]), ...refusals(400, 404, 500, 503) },
      },
      config: { openapi: { models: { parameter: 'model' } } },
    },
    async ({ query: { model, label, type } }) => {
      const runners = scheduler.status()
      if (!model) return registry.list({ label, type }).flatMap((entry) => modelInfo(entry, runners) ?? [])
      const entry = registry.get(model)
      const info = modelInfo(entry, runners)
      if (!info) throw new AppError('MODEL_NOT_READY', `model '${model}' cannot be used: ${entry.reason}`)
      return info
    },
  )
}
