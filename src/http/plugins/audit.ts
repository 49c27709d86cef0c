/**
 * Writes the operator's changes down: a line before each is begun, and one when it has ended. For the scope of the admin
 * routes, behind what decides who may call them.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { ERROR_STATUS } from '../../errors.js'
import type { AuditLine, AuditLog } from '../../observability/audit-log.js'
import { SAFE_NAME } from '../../util/safe-name.js'
import { clientOf } from '../client-address.js'

/** They change nothing. */
const READING: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS'])

export const audit = fp(
  async (app: FastifyInstance, { audit: auditLog }: { readonly audit: AuditLog }) => {
    const begun = new WeakSet<FastifyRequest>()
    app.addHook('preHandler', async (request) => {
      if (READING.has(request.method) || isDraft(request)) return
      await auditLog.begin(lineOf(request))
      begun.add(request)
    })
    // Before the reply leaves: who sees it can read the line.
    app.addHook('onSend', async (request, reply) => {
      if (!begun.delete(request)) return
      const { statusCode: status } = reply
      const code = request.errorCode
      await auditLog.end({ ...lineOf(request), outcome: outcomeOf(status), status, code })
    })
  },
  { name: 'audit' },
)

/** A PUT that asks what would be understood, and changes nothing. */
function isDraft({ query }: FastifyRequest): boolean {
  return (query as { draft?: string } | undefined)?.draft === 'true'
}

function outcomeOf(status: number): 'done' | 'refused' | 'failed' {
  return status < 400 ? 'done' : status < 500 && status !== ERROR_STATUS.CANCELLED ? 'refused' : 'failed'
}

function lineOf(request: FastifyRequest): AuditLine {
  const { name } = (request.params ?? {}) as { name?: string }
  const { schema } = request.routeOptions
  return {
    request: request.id,
    who: request.caller?.name,
    address: clientOf(request),
    action: (schema as { operationId?: string } | undefined)?.operationId ?? request.method,
    // What is no name names no model.
    model: name !== undefined && SAFE_NAME.test(name) ? name : undefined,
  }
}
