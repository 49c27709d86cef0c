/** The HTTP application: plugins, limits and routes around the services. It opens no socket; server.ts does. */
import type { Server } from 'node:http'
import helmet from '@fastify/helmet'
import multipart from '@fastify/multipart'
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifyServerOptions,
  LogController,
} from 'fastify'
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import { pino } from 'pino'
import { FailedAttempts } from './access/failed-attempts.js'
import { Tokens } from './access/tokens.js'
import { Config } from './config/schema.js'
import { AppError } from './errors.js'
import { createHostGuard } from './http/admin-hosts.js'
import { isAdminPath, isDatastorePath } from './http/admin-paths.js'
import { acceptBareBodies } from './http/bare-bodies.js'
import { hopAddress } from './http/client-address.js'
import { refuseConnection, sendError, toAppError } from './http/error-reply.js'
import { createHostList } from './http/host-list.js'
import { authRoutes } from './http/monailabel/auth.js'
import { datastoreRoutes } from './http/monailabel/datastore.js'
import { inferRoutes } from './http/monailabel/infer.js'
import { infoRoutes } from './http/monailabel/info.js'
import { labelRoutes } from './http/monailabel/labels.js'
import { nextSampleRoutes } from './http/monailabel/next-sample.js'
import { createSeriesImages } from './http/monailabel/series-images.js'
import { createStoredImages } from './http/monailabel/stored-images.js'
import { audit } from './http/plugins/audit.js'
import { crossOrigin, mayUseGuarded } from './http/plugins/cross-origin.js'
import { docs } from './http/plugins/docs.js'
import { drainUpload } from './http/plugins/drain-upload.js'
import { errorHandler } from './http/plugins/error-handler.js'
import { hostGuard } from './http/plugins/host-guard.js'
import { requestLog } from './http/plugins/request-log.js'
import { stalledReplies } from './http/plugins/stalled-replies.js'
import { takeTokenOffPath, tokenGuard } from './http/plugins/token-guard.js'
import { traceId } from './http/request-id.js'
import { adminModelRoutes } from './http/routes/admin-models.js'
import { dicomSegRoutes } from './http/routes/dicom-seg.js'
import { fixpolygonRoutes } from './http/routes/fixpolygon.js'
import { inferenceRoutes } from './http/routes/inference.js'
import { logRoutes } from './http/routes/logs.js'
import { mask2polygonRoutes } from './http/routes/mask2polygon.js'
import { metricsRoutes } from './http/routes/metrics.js'
import { modelRoutes } from './http/routes/models.js'
import { createSendPage, pageRoutes } from './http/routes/page.js'
import { requestRoutes } from './http/routes/requests.js'
import { serverRoutes } from './http/routes/server.js'
import { sessionRoutes } from './http/routes/session.js'
import type { Metrics } from './observability/metrics.js'
import type { Services } from './services.js'
import { readVersion } from './util/version.js'

/** JSON bodies (a model's config, a session's source) are read into memory; uploads are not, and have limits of their own. */
const JSON_BODY_BYTES = 8 * 1024 * 1024

/** The largest real config seen has 20 KB. */
const MODEL_CONFIG_BYTES = 4 * 1024 * 1024

/**
 * Named when Fastify is made and not set later, so that it loads no compilers of its own (ajv's), which nothing here uses.
 * Its types know those alone.
 */
const ZOD_ALONE = {
  compilersFactory: { buildValidator: () => validatorCompiler, buildSerializer: () => serializerCompiler },
} as unknown as NonNullable<FastifyServerOptions['schemaController']>

export async function buildApp(services: Services, config: Config): Promise<FastifyInstance> {
  const { datastore, dicomweb, metrics, tokens } = services
  const isTrusted = await createHostList(config.trustedProxies, '--trusted-proxies')
  const app = Fastify({
    loggerInstance: services.logger as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }),
    schemaController: ZOD_ALONE,
    genReqId: traceId,
    bodyLimit: JSON_BODY_BYTES,
    requestTimeout: config.uploadDeadline * 1000,
    forceCloseConnections: 'idle',
    trustProxy: config.trustedProxies.length > 0 && ((address) => isTrusted(hopAddress(address))),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1024 },
    return503OnClosing: true,
    ...(tokens.guards('admin') ? { rewriteUrl: takeTokenOffPath } : {}),
    // Before any route, and so before the request's own hooks: a URL that is none.
    frameworkErrors: (error, request, reply) => {
      const known = toAppError(error)
      const { method } = request
      metrics?.requestEnded({ method, route: undefined, status: known.statusCode, seconds: 0, code: known.code })
      void sendError(known, request as FastifyRequest, reply as FastifyReply)
    },
    clientErrorHandler: refuseConnection,
    // The same server in every other respect; its type is the plain one's, so that routes need not care.
    ...(services.tls ? ({ https: services.tls.options } as object) : {}),
  })
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id)
  })

  app.addHook('preClose', async () => closeAsTheyIdle(app.server))

  await app.register(requestLog, { metrics })
  await app.register(errorHandler)
  await app.register(drainUpload)
  await app.register(stalledReplies, { seconds: config.replySilence })
  const isGuarded = datastore || dicomweb ? (url: string) => isAdminPath(url) || isDatastorePath(url) : isAdminPath
  await app.register(hostGuard, { host: config.host, allowedHosts: config.allowedHosts, isGuarded })
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: {
        defaultSrc: ["'none'"],
        scriptSrc: ["'self'"],
        connectSrc: ["'self'"],
        imgSrc: ["'self'", 'data:', 'blob:'],
        styleSrc: ["'self'"],
        baseUri: ["'none'"],
        formAction: ["'none'"],
        frameAncestors: ["'self'"],
      },
    },
    // Plain HTTP on a hospital's network must keep working, and pages of other origins read results.
    strictTransportSecurity: false,
    crossOriginResourcePolicy: { policy: 'cross-origin' },
    crossOriginOpenerPolicy: false,
    originAgentCluster: false,
  })
  await app.register(crossOrigin, { origins: config.corsOrigins, isGuarded })
  // After the check of origins, so that a page may read why it was refused.
  const failures = new FailedAttempts(config.maxFailedTokens)
  await app.register(tokenGuard, { tokens, failures, origins: config.corsOrigins })
  await app.register(multipart, { throwFileSizeLimit: false })
  const { board, registry, scheduler, sessions } = services
  const models = () => registry.list().flatMap(({ name, config: known }) => (known ? [{ name, type: known.type }] : []))
  await app.register(docs, { version: readVersion(), models })

  const scope = { tmpRoot: services.tmpRoot, deadlineSeconds: config.requestDeadline, background: services.background }
  const readLimits = {
    maxVolumeBytes: config.maxVolumeBytes,
    maxVoxels: config.maxVoxels,
    maxGridVoxels: config.maxGridVoxels,
  }
  const adminGuard = await createHostGuard(config.adminHosts, { what: 'call the admin API', flag: '--admin-hosts' })
  const datastoreGuard = await createHostGuard(config.datastoreHosts, {
    what: 'use the datastore',
    flag: '--datastore-hosts',
  })
  const access = async (request: FastifyRequest) => {
    await datastoreGuard(request)
    if (!mayUseGuarded(request, config.corsOrigins))
      throw new AppError('FORBIDDEN', 'pages of this origin may not use the datastore', {
        hint: 'the operator of the server lists the origins that may with --cors-origins',
      })
  }

  const series = dicomweb && createSeriesImages({ server: dicomweb.server, sessions, scheduler, readLimits })
  const images = createStoredImages({ datastore, series, access })

  await app.register(serverRoutes, {
    version: readVersion(),
    readiness: services.readiness,
    sendPage: createSendPage(),
  })
  await app.register(pageRoutes)
  if (metrics) await app.register(metricsRoutes, { metrics })
  await app.register(requestRoutes, { board, now: Date.now })
  await app.register(async (uploads) => {
    acceptBareBodies(uploads, config.maxParamsBytes)
    await uploads.register(inferenceRoutes, {
      registry,
      scheduler,
      sessions,
      board,
      scope,
      uploadLimits: config,
      readLimits,
    })
    const stored = { datastore, dicomweb, images, scheduler, sessions, board, scope, uploadLimits: config, readLimits }
    await uploads.register(inferRoutes, { ...stored, registry })
    await uploads.register(datastoreRoutes, stored)
    await uploads.register(labelRoutes, { ...stored, storeLabels: config.storeLabels })
    const tools = { scheduler, sessions, board, scope, uploadLimits: config, readLimits }
    await uploads.register(mask2polygonRoutes, tools)
    await uploads.register(fixpolygonRoutes, tools)
    await uploads.register(dicomSegRoutes, tools)
    await uploads.register(sessionRoutes, {
      board,
      sessions,
      scheduler,
      registry,
      fetchSource: services.fetchSource,
      scope,
      uploadLimits: config,
      readLimits,
    })
  })
  await app.register(modelRoutes, { registry, scheduler })
  await app.register(infoRoutes, { version: readVersion(), registry, datastore, dicomweb })
  await app.register(authRoutes, { tokens, failures })
  await app.register(nextSampleRoutes, { datastore, dicomweb, images })
  await app.register(async (admin) => {
    admin.addHook('onRequest', adminGuard)
    if (services.audit) await admin.register(audit, { audit: services.audit })
    acceptBareBodies(admin, MODEL_CONFIG_BYTES)
    const limits = { maxModelBytes: config.maxModelBytes, maxConfigBytes: MODEL_CONFIG_BYTES }
    await admin.register(logRoutes, { logs: services.logs })
    await admin.register(adminModelRoutes, { registry, scheduler, scope, limits })
  })
  return app
}

/** The OpenAPI document of every route. No service is needed: routes are registered here, and none is called. */
export async function describeApi(): Promise<unknown> {
  const tokens = await Tokens.open({ api: '', admin: '' })
  const metrics = {} as Metrics
  const services = { logger: pino({ level: 'silent' }), tmpRoot: '', tokens, metrics } as Services
  const app = await buildApp(services, Config.parse({}))
  await app.ready()
  const document = app.swagger()
  await app.close()
  return document
}

/**
 * A kept-alive connection whose reply has just left may not count as idle yet when the server closes, and nothing would
 * look at it again for the rest of its keep-alive time.
 */
function closeAsTheyIdle(server: Server): void {
  const timer = setInterval(() => {
    server.closeIdleConnections()
    server.getConnections((_error, count) => {
      if (count === 0) clearInterval(timer)
    })
  }, 50)
  timer.unref()
}
