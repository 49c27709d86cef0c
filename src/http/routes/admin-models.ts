/** /admin/model and /admin/ps: loading, changing and removing models, and what runs. The caller guards these routes. */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { RewriteChoice } from '../../contract/model.js'
import type { DraftQuestion } from '../../registry/draft-config.js'
import type { ModelEntry, ModelPart, ModelRegistry } from '../../registry/registry.js'
import type { RunnerStatus, Scheduler } from '../../scheduler/scheduler.js'
import { modelInfo, stateOf } from '../model-info.js'
import { type ModelUploadLimits, receiveConfig, receiveModel } from '../model-upload.js'
import { type ScopeOptions, withScope } from '../request-scope.js'
import { refusals } from '../schemas.js'

export interface AdminModelRouteOptions {
  readonly registry: ModelRegistry
  readonly scheduler: Pick<Scheduler, 'status' | 'load' | 'retire'>
  readonly scope: ScopeOptions
  readonly limits: ModelUploadLimits
}

const ModelName = z.object({ name: z.string().meta({ description: 'letters, digits, dots, dashes and underscores' }) })
const Config = z.record(z.string(), z.unknown()).meta({ id: 'ModelConfig', description: 'a config_aiaa.json' })

const Optimised = z
  .object({
    engine: z.string(),
    plan: z.string().nullable().meta({ description: 'null: as it was exported, which was not slower' }),
    rewrites: z.record(z.string(), z.number()).meta({ description: 'nodes that each rewrite replaced' }),
    original_ms: z.number().meta({ description: 'one run of the network as exported' }),
    chosen_ms: z.number().meta({ description: 'one run as it is used' }),
    too_long: z
      .boolean()
      .optional()
      .meta({ description: 'one run took longer than --optimise-trial: nothing was tried' }),
  })
  .meta({ id: 'Optimised', description: 'whether the network runs rewritten into an equal one, and what that gains' })

const Part = z
  .object({
    network: z.string().meta({ description: 'its name in the config' }),
    role: z.enum(['first', 'second', 'mean', 'vote', 'label map']),
    sha256: z.string(),
    bytes: z.number(),
    labels: z.record(z.string(), z.number()).optional().meta({ description: 'final labels by its own' }),
  })
  .meta({ id: 'ModelPart' })

/** Everything known of a model, also of one whose config cannot be read. */
const AdminModel = z
  .looseObject({
    name: z.string(),
    state: z.enum(['UNLOADED', 'LOADING', 'READY', 'FAILED']),
    reason: z.string().optional(),
    origin: z.enum(['bundled', 'workspace']),
    revision: z.string(),
    generation: z.number().meta({ description: 'counts the publishes of this name; 0 for a bundled model' }),
    created_at: z.string(),
    previous: z
      .object({ generation: z.number(), revision: z.string(), created_at: z.string() })
      .optional()
      .meta({ description: 'what PUT {"generation"} can bring back' }),
    inputs: z.array(z.unknown()).optional().meta({ description: "the network's own inputs: name, type, dims" }),
    outputs: z.array(z.unknown()).optional(),
    optimised: Optimised.optional(),
    parts: z.array(Part).optional().meta({ description: 'the networks of a model of several, as they run' }),
    config: z.unknown().optional().meta({ description: 'config_aiaa.json as uploaded' }),
  })
  .meta({ id: 'AdminModel' })

const Running = z
  .object({
    model: z.string(),
    revision: z.string(),
    state: z.enum(['loading', 'ready', 'busy', 'stopping']),
    device: z.string().optional(),
    fallback_reason: z.string().optional().meta({ description: 'why it is not on the device that was asked for' }),
    pid: z.number().optional(),
    rss_bytes: z.number().optional().meta({ description: 'memory of its process' }),
    queued: z.number().meta({ description: 'jobs that wait for it' }),
    until: z.string().optional().meta({ description: 'when it is unloaded unless used; absent while busy' }),
  })
  .meta({ id: 'RunningModel' })

/** What PUT answers with `draft=true`. */
const Draft = z
  .object({
    draft: z.literal(true),
    config: z.unknown().meta({ description: 'a whole config_aiaa.json' }),
    understood: z.array(z.string()).meta({ description: 'what would be done, a line each' }),
    questions: z
      .array(
        z.object({
          about: z.string(),
          question: z.string(),
          drafted: z.string(),
          choices: z.array(z.object({ answer: z.string(), write: z.unknown() })),
        }),
      )
      .meta({ description: 'what no file tells, with what the draft says and what else it could say' }),
  })
  .meta({ id: 'ModelDraft' })
const DraftQuery = z.object({
  draft: z
    .enum(['true', 'false'])
    .optional()
    .meta({ description: 'answer what would be understood, and load nothing' }),
})

const PUT_BODY = {
  required: true,
  content: {
    'multipart/form-data': {
      schema: {
        type: 'object',
        properties: {
          config: { type: 'string', format: 'binary', description: 'config_aiaa.json' },
          data: {
            type: 'string',
            format: 'binary',
            description:
              'model.onnx, or a zip of it with its external data, of an MMAR, of a MONAI bundle or of nnU-Net v2; several of ' +
              'these parts, each with its file name, are the networks of one model',
          },
          encoder: {
            type: 'string',
            format: 'binary',
            description: 'instead of data, with decoder: the ONNX encoder of a model of two parts (inference.parts)',
          },
          decoder: { type: 'string', format: 'binary', description: 'its ONNX decoder' },
        },
      },
    },
    'application/json': {
      schema: {
        type: 'object',
        properties: {
          path: { type: 'string' },
          version: { type: 'string' },
          url: { type: 'string' },
          sha256: { type: 'string' },
          generation: { type: 'integer' },
        },
        examples: [{ path: 'nvidia/med/clara_ct_seg_spleen_amp', version: '1' }],
      },
    },
  },
}
const PATCH_BODY = {
  required: true,
  content: { 'application/json': { schema: { type: 'object', additionalProperties: true } } },
}

export const adminModelRoutes: FastifyPluginAsyncZod<AdminModelRouteOptions> = async (app, options) => {
  const { registry, scheduler } = options
  const tags = ['admin']

  app.get(
    '/admin/model',
    {
      schema: {
        operationId: 'listAdminModels',
        tags,
        summary: 'Every model with its config, state and history',
        response: { 200: z.array(AdminModel), ...refusals(403, 500) },
      },
    },
    async () => {
      const runners = scheduler.status()
      return registry.list().map((entry) => ({ ...adminModel(entry, runners), config: entry.rawConfig }))
    },
  )

  app.get(
    '/admin/model/:name',
    {
      schema: {
        operationId: 'getModelConfig',
        tags,
        summary: 'The current config of a model',
        description: 'The config_aiaa.json as it was uploaded, so that it can be changed and sent back with PATCH.',
        params: ModelName,
        response: { 200: Config, ...refusals(403, 404, 500) },
      },
    },
    async ({ params }) => (registry.get(params.name).rawConfig ?? {}) as z.infer<typeof Config>,
  )

  app.put(
    '/admin/model/:name',
    {
      schema: {
        operationId: 'putModel',
        tags,
        summary: 'Load a model, new or in place of the one of this name',
        description:
          'Parts config and data; data alone when it is an MMAR or MONAI bundle zip; config alone for a pipeline or a ' +
          'kserve model; or JSON that names a model of the catalogue ({"path", "version"} or {"url", "sha256"}) or a kept ' +
          'generation of this one ({"generation"}). The model is proved first: until it has loaded and run, and if it ' +
          'does not, the old one keeps serving. With draft=true nothing is loaded: the answer is the config as it would be ' +
          'understood, and for an ONNX file without one a first draft with questions.',
        params: ModelName,
        querystring: DraftQuery,
        response: {
          200: z.union([Draft, AdminModel]),
          ...refusals(400, 403, 404, 409, 413, 415, 422, 499, 500, 503, 504),
        },
      },
      config: { openapi: { requestBody: PUT_BODY } },
    },
    async (request, reply) =>
      withScope(request, reply, options.scope, async ({ folder, signal }) => {
        const source = await receiveModel(request, folder, options.limits)
        if (request.query.draft === 'true') {
          const { config, understood, questions } = await registry.draft(source, folder, signal)
          return { draft: true as const, config, understood: [...understood], questions: questions.map(copyQuestion) }
        }
        return adminModel(await registry.put(request.params.name, source, signal), scheduler.status())
      }),
  )

  app.patch(
    '/admin/model/:name',
    {
      schema: {
        operationId: 'patchModel',
        tags,
        summary: 'Replace the config of a model and keep its weights',
        description: 'The body is the whole new config_aiaa.json. Proved like a PUT.',
        params: ModelName,
        response: { 200: AdminModel, ...refusals(400, 403, 404, 409, 413, 415, 422, 499, 500, 503, 504) },
      },
      config: { openapi: { requestBody: PATCH_BODY } },
    },
    async (request, reply) =>
      withScope(request, reply, options.scope, async ({ signal }) => {
        const config = receiveConfig(request.body)
        return adminModel(await registry.patch(request.params.name, config, signal), scheduler.status())
      }),
  )

  app.delete(
    '/admin/model/:name',
    {
      schema: {
        operationId: 'deleteModel',
        tags,
        summary: 'Remove a model, and give its memory back',
        description:
          'Running jobs finish. A bundled model is marked as gone; PUT {"path": "<its name>"} brings it back.',
        params: ModelName,
        response: { 200: AdminModel, ...refusals(400, 403, 404, 409, 500) },
      },
    },
    async ({ params }) => {
      const removed = registry.get(params.name)
      await registry.remove(params.name)
      return { ...adminModel(removed, []), state: 'UNLOADED' as const }
    },
  )

  app.post(
    '/admin/model/:name/load',
    {
      schema: {
        operationId: 'loadModel',
        tags,
        summary: 'Bring a model into memory now instead of with its first request',
        params: ModelName,
        response: { 200: AdminModel, ...refusals(403, 404, 422, 500, 503) },
      },
    },
    async ({ params }) => {
      await scheduler.load(registry.resolve(params.name))
      return adminModel(registry.get(params.name), scheduler.status())
    },
  )

  app.post(
    '/admin/model/:name/unload',
    {
      schema: {
        operationId: 'unloadModel',
        tags,
        summary: 'Give the memory of a model back; its next request loads it again',
        params: ModelName,
        response: { 200: AdminModel, ...refusals(403, 404, 500) },
      },
    },
    async ({ params }) => {
      const entry = registry.get(params.name)
      await scheduler.retire(params.name)
      return adminModel(entry, scheduler.status())
    },
  )

  app.get(
    '/admin/ps',
    {
      schema: {
        operationId: 'listRunningModels',
        tags,
        summary: 'Models in memory: device, bytes, queue, and until when',
        response: { 200: z.array(Running), ...refusals(403, 500) },
      },
    },
    async () => scheduler.status().map(running),
  )
}

function adminModel(entry: ModelEntry, runners: readonly RunnerStatus[]): z.infer<typeof AdminModel> {
  const { name, revision, generation, origin, previous, tensors, reason } = entry
  const runner = runners.find((one) => one.model === name && one.revision === revision)
  const rewrites = runner?.rewrites ?? entry.rewrites
  return {
    ...modelInfo(entry, runners),
    name,
    state: stateOf(entry, runner),
    ...(reason === undefined ? {} : { reason }),
    origin,
    revision,
    generation,
    created_at: entry.createdAt,
    ...(previous === undefined
      ? {}
      : {
          previous: {
            generation: previous.generation,
            revision: previous.revision,
            created_at: previous.createdAt,
          },
        }),
    ...(tensors === undefined ? {} : { inputs: [...tensors.inputs], outputs: [...tensors.outputs] }),
    ...(entry.networks === undefined ? {} : { parts: entry.networks.map(copyPart) }),
    ...(rewrites === undefined ? {} : { optimised: optimised(rewrites) }),
  }
}

function optimised({
  engine,
  plan,
  rewrites,
  originalMs,
  chosenMs,
  tooLong,
}: RewriteChoice): z.infer<typeof Optimised> {
  return {
    engine,
    plan,
    rewrites,
    original_ms: round2(originalMs),
    chosen_ms: round2(chosenMs),
    ...(tooLong ? { too_long: true } : {}),
  }
}

function round2(value: number): number {
  return Math.round(value * 100) / 100
}

function copyPart({ labels, ...part }: ModelPart): z.infer<typeof Part> {
  return labels ? { ...part, labels: { ...labels } } : part
}

function copyQuestion({ choices, ...rest }: DraftQuestion) {
  return { ...rest, choices: choices.map((choice) => ({ ...choice })) }
}

function running(status: RunnerStatus): z.infer<typeof Running> {
  const { model, revision, state, device, fallbackReason, pid, rssBytes, queued, until } = status
  return {
    model,
    revision,
    state,
    queued,
    ...(device === undefined ? {} : { device }),
    ...(fallbackReason === undefined ? {} : { fallback_reason: fallbackReason }),
    ...(pid === undefined ? {} : { pid }),
    ...(rssBytes === undefined ? {} : { rss_bytes: rssBytes }),
    ...(until === undefined ? {} : { until: new Date(until).toISOString() }),
  }
}
