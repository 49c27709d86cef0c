/** Who may call /admin, or use the datastore: the client's address against a list. */
import type { FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import { clientOf } from './client-address.js'
import { createHostList } from './host-list.js'

/** A hook for the routes that only some hosts may call. */
export type HostGuard = (request: FastifyRequest) => Promise<void>

/** What a list of hosts guards, in words for those it keeps out, and the flag that names them. */
export interface Guarded {
  readonly what: string
  readonly flag: string
}

/** Lets everybody in for `*`. Throws an Error naming the entry that is no host. */
export async function createHostGuard(hosts: readonly string[], { what, flag }: Guarded): Promise<HostGuard> {
  if (hosts.includes('*')) return async () => {}
  const isListed = await createHostList(hosts, flag)
  return async (request) => {
    if (isListed(clientOf(request))) return
    throw new AppError('FORBIDDEN', `this host may not ${what}`, {
      hint: `the operator of the server lists the hosts that may with ${flag}`,
    })
  }
}
