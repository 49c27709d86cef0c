/**
 * The OpenAPI document after zod has had its say: what zod cannot say of a route (multipart bodies, replies that are files),
 * what every route may answer, an example of every error, and, when the document is served, the names of the models.
 */
import type { ErrorCode } from '../errors.js'
import type { ModelChoice, OpenApiExtra } from './openapi-upload.js'

export interface OpenApiDocument {
  readonly paths?: Record<string, Record<string, Operation>>
  readonly components?: { schemas?: Record<string, unknown> }
}

interface Operation {
  operationId?: string
  tags?: readonly string[]
  parameters?: Parameter[]
  requestBody?: unknown
  responses: Record<string, Response>
  security?: readonly unknown[]
}

interface Parameter {
  readonly name: string
  schema?: Record<string, unknown>
  example?: unknown
}

interface Response {
  description?: string
  content?: Record<string, { schema?: unknown; example?: unknown }>
}

/** What the statuses mean here, for the routes whose schema does not say more. */
const MEANINGS: Readonly<Record<string, string>> = {
  200: 'success',
  202: 'accepted; the work goes on',
  400: 'bad parameters, or an unreadable image; the message names the parameter',
  401: 'this server wants a token, and none or a wrong one came',
  403: 'this host, page, token or fetch is not allowed',
  404: 'no such model, session, request or URL',
  405: 'the URL is there, the method is not',
  409: 'another change of this name, or a request of this id, is under way',
  413: 'a limit was crossed; the hint names its flag',
  415: 'a format the server does not read',
  422: 'the model or its config is wrong; the message names the key or tensor',
  429: 'too many wrong tokens came from this address; Retry-After says when the next is looked at',
  440: 'the session has expired or never was',
  499: 'the request was cancelled',
  500: 'a fault of the server; its log has the request id',
  502: 'another server did not deliver',
  503: 'full, shutting down, or the process of the model crashed; Retry-After says when to try again',
  504: 'the deadline has passed',
}

interface ErrorExample {
  readonly code: ErrorCode
  readonly message: string
  readonly hint?: string
}

/** One error of each status as a client sees it. */
const EXAMPLES: Readonly<Record<string, ErrorExample>> = {
  400: { code: 'BAD_PARAMS', message: 'params.foreground: point 0 lies outside the image of 128x128x64 voxels' },
  401: { code: 'UNAUTHORIZED', message: 'this server wants a token' },
  403: { code: 'FORBIDDEN', message: "this server does not answer to the host name 'rebound.example'" },
  404: { code: 'MODEL_NOT_FOUND', message: "model 'spleen' is not loaded", hint: 'GET /v1/models lists the models' },
  405: { code: 'METHOD_NOT_ALLOWED', message: 'PUT is not possible here; GET is' },
  409: { code: 'BUSY_NAME', message: "another change of 'spleen' is under way" },
  413: {
    code: 'TOO_LARGE',
    message: 'the upload is larger than 1073741824 bytes',
    hint: 'the operator of the server can raise this limit with --max-upload-bytes',
  },
  415: { code: 'UNSUPPORTED_FORMAT', message: 'the file is a PDF document, which is not an image' },
  422: { code: 'BAD_MODEL', message: "the network has no input 'image'; it has 'input'" },
  429: { code: 'TOO_MANY_REQUESTS', message: 'too many wrong tokens came from this address' },
  440: { code: 'SESSION_EXPIRED', message: 'the session has expired', hint: 'upload the image again' },
  499: { code: 'CANCELLED', message: 'the request was cancelled' },
  500: { code: 'INTERNAL', message: 'internal error' },
  502: { code: 'FETCH_FAILED', message: '10.0.0.7:11112 did not answer within 30 s' },
  503: {
    code: 'BUSY',
    message: '16 requests already wait for this model',
    hint: 'try again after Retry-After seconds',
  },
  504: { code: 'DEADLINE_EXCEEDED', message: 'the request took longer than 1800 s' },
}

/** Where a tag's 404 or 409 is about something else. */
const EXAMPLES_OF_TAG: Readonly<Record<string, Readonly<Record<string, ErrorExample>>>> = {
  session: { 404: { code: 'SESSION_NOT_FOUND', message: 'there is no such session' } },
  requests: {
    404: { code: 'REQUEST_NOT_FOUND', message: "there is no request 'job-1'" },
    409: { code: 'REQUEST_NOT_READY', message: "request 'job-1' has no result to fetch" },
  },
  inference: { 409: { code: 'BUSY_NAME', message: "a request with the id 'job-1' is under way" } },
  polygons: { 409: { code: 'BUSY_NAME', message: "a request with the id 'job-1' is under way" } },
}

/** Answers that come from before or around a route: a bad URL, a host name that is not ours, a fault, a server that ends. */
const EVERYWHERE = ['400', '403', '500', '503'] as const
/** And where the operator wants tokens. */
const GUARDED = ['401', '429'] as const

const ERROR = { $ref: '#/components/schemas/Error' }

/**
 * Lays `extras` (by `verb path`) over the document, says of the `open` routes that they want no token, lists what every
 * route may answer, and drops schemas nobody names.
 */
export function completeDocument(
  document: OpenApiDocument,
  extras: ReadonlyMap<string, OpenApiExtra>,
  open: ReadonlySet<string>,
): void {
  for (const [path, verb, operation] of operationsOf(document)) {
    const extra = extras.get(`${verb} ${path}`)
    if (extra?.requestBody !== undefined) operation.requestBody = extra.requestBody
    Object.assign(operation.responses, extra?.responses)
    const isOpen = open.has(`${verb} ${path}`)
    if (isOpen) operation.security = []
    for (const status of isOpen ? EVERYWHERE : [...EVERYWHERE, ...GUARDED])
      operation.responses[status] ??= { content: { 'application/json': { schema: ERROR } } }
    for (const [status, response] of Object.entries(operation.responses)) {
      if (response.description === undefined || response.description === 'Default Response')
        response.description = MEANINGS[status] ?? status
      if (Number(status) >= 400) addExample(response, status, operation.tags?.[0] ?? '')
    }
  }
  dropUnused(document)
}

/** Offers the names of the models that suit a route as choices, the first as the default. Changes `document`. */
export function offerModels(
  document: OpenApiDocument,
  extras: ReadonlyMap<string, OpenApiExtra>,
  models: readonly { readonly name: string; readonly type: string }[],
): void {
  for (const [path, verb, operation] of operationsOf(document)) {
    const choice = extras.get(`${verb} ${path}`)?.models
    if (choice === undefined) continue
    const names = namesFor(choice, models)
    const parameter = operation.parameters?.find(({ name }) => name === choice.parameter)
    if (parameter === undefined || names.length === 0) continue
    parameter.schema = { ...parameter.schema, enum: names }
    if ((parameter as { required?: boolean }).required) parameter.example = names[0]
  }
}

function namesFor(
  { types }: ModelChoice,
  models: readonly { readonly name: string; readonly type: string }[],
): string[] {
  return models.filter(({ type }) => types === undefined || types.includes(type)).map(({ name }) => name)
}

function* operationsOf(document: OpenApiDocument): Generator<[path: string, verb: string, operation: Operation]> {
  for (const [path, verbs] of Object.entries(document.paths ?? {}))
    for (const [verb, operation] of Object.entries(verbs)) yield [path, verb, operation]
}

function addExample(response: Response, status: string, tag: string): void {
  const json = response.content?.['application/json']
  const example = EXAMPLES_OF_TAG[tag]?.[status] ?? EXAMPLES[status]
  if (json === undefined || example === undefined || (json.schema as typeof ERROR | undefined)?.$ref !== ERROR.$ref)
    return
  const { code, message, hint } = example
  const type = code
    .split('_')
    .map((word) => word[0] + word.slice(1).toLowerCase())
    .join('')
  json.example = {
    error: { type, message: [message] },
    success: false,
    code,
    ...(hint === undefined ? {} : { hint }),
    request_id: '1b4e28ba-2fa1-11d2-883f-0016d3cca427',
  }
}

/** zod gives every named schema twice, as it comes in and as it goes out; only those that something refers to are kept. */
function dropUnused(document: OpenApiDocument): void {
  const schemas = document.components?.schemas ?? {}
  const used = new Set<string>()
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return
    for (const [key, value] of Object.entries(node)) {
      const name = key === '$ref' ? /^#\/components\/schemas\/(.+)$/.exec(String(value))?.[1] : undefined
      if (name === undefined) visit(value)
      else if (!used.has(name)) {
        used.add(name)
        visit(schemas[name])
      }
    }
  }
  visit(document.paths)
  for (const name of Object.keys(schemas)) if (!used.has(name)) delete schemas[name]
}
