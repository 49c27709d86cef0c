/** Who may call /admin: the socket's own address against `--admin-hosts`. Forwarded headers are never believed. */
import { lookup } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { AppError } from '../errors.js'
import { plainAddress } from '../util/ip-address.js'

/** A hook for the routes that only admin hosts may call. */
export type AdminGuard = (request: FastifyRequest) => Promise<void>

/**
 * Resolves `--admin-hosts` once, at start: `*`, addresses, CIDR blocks, names. Throws an Error naming the entry that is
 * none of these, or a name that does not resolve.
 */
export async function createAdminGuard(adminHosts: readonly string[]): Promise<AdminGuard> {
  if (adminHosts.includes('*')) return async () => {}
  const allowed = new BlockList()
  for (const entry of adminHosts) await addEntry(allowed, entry)
  return async (request) => {
    const address = plainAddress(request.raw.socket.remoteAddress ?? '')
    const version = isIP(address)
    if (version !== 0 && allowed.check(address, version === 4 ? 'ipv4' : 'ipv6')) return
    throw new AppError('FORBIDDEN', 'this host may not call the admin API', {
      hint: 'the operator of the server lists the hosts that may with --admin-hosts',
    })
  }
}

async function addEntry(allowed: BlockList, entry: string): Promise<void> {
  const [base, bits, rest] = entry.split('/')
  const address = plainAddress(base!)
  const version = isIP(address)
  if (bits !== undefined) {
    const most = version === 4 ? 32 : 128
    if (version === 0 || rest !== undefined || !/^\d+$/.test(bits) || Number(bits) > most)
      throw new Error(`--admin-hosts: '${entry}' is not a CIDR block such as 10.0.0.0/8`)
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
    throw new Error(`--admin-hosts: the name '${entry}' does not resolve`, { cause })
  }
}
