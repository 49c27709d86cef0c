/** Who asks, as an address: the other end of the socket, or whom a proxy of `--trusted-proxies` says it asks for. */
import type { FastifyRequest } from 'fastify'
import { plainAddress } from '../util/ip-address.js'

/** 'unknown' on a socket of this machine, and where a trusted proxy gives no address. */
export function clientOf(request: FastifyRequest): string {
  const address = plainAddress(request.ip ?? '')
  return address === '' ? 'unknown' : address.slice(0, 64)
}
