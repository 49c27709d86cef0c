/**
 * GET /auth/ and /auth/token: how MONAI Label's clients log in. Its password is one of this server's tokens, whatever the
 * user's name; what it gets for it is that token, which it sends as Bearer from then on.
 */
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod'
import { z } from 'zod'
import type { FailedAttempts } from '../../access/failed-attempts.js'
import type { Tokens } from '../../access/tokens.js'
import { AppError } from '../../errors.js'
import { checkToken, wrongToken } from '../plugins/token-guard.js'
import { refusals } from '../schemas.js'

export interface AuthOptions {
  readonly tokens: Tokens
  readonly failures: FailedAttempts
}

/** A user's name, a token, and what OAuth's clients send beside them. */
const MOST_LOGIN_BYTES = 16 * 1024

const Login = {
  required: true,
  content: {
    'application/x-www-form-urlencoded': {
      schema: {
        type: 'object',
        properties: {
          username: { type: 'string', description: 'any' },
          password: { type: 'string', description: 'a token of this server' },
        },
        required: ['password'],
      },
    },
  },
} as const

export const authRoutes: FastifyPluginAsyncZod<AuthOptions> = async (app, { tokens, failures }) => {
  const tags = ['monailabel']
  app.addContentTypeParser(
    'application/x-www-form-urlencoded',
    { parseAs: 'string', bodyLimit: MOST_LOGIN_BYTES },
    (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(body.toString()))),
  )

  app.get(
    '/auth',
    {
      schema: {
        operationId: 'getMonaiAuth',
        tags,
        summary: 'Whether a user has to log in: whether the API wants a token',
        response: { 200: z.object({ enabled: z.boolean() }) },
      },
      config: { open: true },
    },
    async () => ({ enabled: tokens.guards('api') }),
  )

  app.post(
    '/auth/token',
    {
      schema: {
        operationId: 'logInMonai',
        tags,
        summary: 'A token for a password, which is that token',
        response: {
          200: z.object({ access_token: z.string(), token_type: z.literal('bearer') }),
          ...refusals(400, 401, 404, 413, 429),
        },
      },
      config: { open: true, openapi: { requestBody: Login } },
    },
    async (request) => {
      if (!tokens.guards('api')) throw noLogIn()
      const password = (request.body as { password?: unknown } | undefined)?.password
      if (typeof password !== 'string' || password === '')
        throw new AppError('BAD_PARAMS', "the form must have the field 'password', which is a token of this server")
      if (!checkToken(tokens, failures, request, password)) throw wrongToken()
      return { access_token: password, token_type: 'bearer' as const }
    },
  )

  app.get(
    '/auth/token/valid',
    {
      schema: {
        operationId: 'checkMonaiToken',
        tags,
        summary: 'Whether the token that came with this request holds',
        response: { 200: z.object({ valid: z.literal(true) }), ...refusals(404) },
      },
    },
    async () => {
      if (!tokens.guards('api')) throw noLogIn()
      return { valid: true as const }
    },
  )
}

function noLogIn(): AppError {
  return new AppError('NOT_FOUND', 'there is no logging in: this server wants no token', {
    hint: 'its operator may want some with --api-token-file',
  })
}
