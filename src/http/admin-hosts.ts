/** Who may call /admin, or use the datastore: the client's address against a list. */
import { lookup } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import { plainAddress } from '../util/ip-address.js'
import { clientOf } from './client-address.js'

/** A hook for the routes that only some hosts may call. */
export type HostGuard = (request: FastifyRequest) => Promise<void>

/** What a list of hosts guards, in words for those it keeps out, and the flag that names them. */
export interface Guarded {
  readonly what: string
  readonly flag: string
}

/**
 * Resolves the hosts of a flag once, at start: `*`, addresses, CIDR blocks, names. Throws an Error naming the entry that is
 * none of these, or a name that does not resolve.
 */
export async function createHostGuard(hosts: readonly string[], { what, flag }: Guarded): Promise<HostGuard> {
  if (hosts.includes('*')) return async () => {}
  const allowed = new BlockList()
  for (const entry of hosts) await addEntry(allowed, entry, flag)
  return async (request) => {
    const address = clientOf(request)
    const version = isIP(address)
    if (version !== 0 && allowed.check(address, version === 4 ? 'ipv4' : 'ipv6')) return
    throw new AppError('FORBIDDEN', `this host may not ${what}`, {
      hint: `the operator of the server lists the hosts that may with ${flag}`,
    })
  }
}

async function addEntry(allowed: BlockList, entry: string, flag: string): Promise<void> {
  const [base, bits, rest] = entry.split('/')
  const address = plainAddress(base!)
  const version = isIP(address)
  if (bits !== undefined) {
    const most = version === 4 ? 32 : 128
    if (version === 0 || rest !== undefined || !/^\d+$/.test(bits) || Number(bits) > most)
      throw new Error(`${flag}: '${entry}' is not a CIDR block such as 10.0.0.0/8`)
    allowed.addSubnet(address, Number(bits), version === 4 ? 'ipv4' : 'ipv6')
    return
  }
  if (version !== 0) {
    allowed.addAddress(address, version === 4 ? 'ipv4' : 'ipv6')
    return
  }
  try {
    for (const found of await lookup(address, { all: true }))
      allowed.addAddress(found.address, found.family === 4 ? 'ipv4' : 'ipv6')
  } catch (cause) {
    throw new Error(`${flag}: the name '${entry}' does not resolve`, { cause })
  }
}
