/** Who asks, as an address: the other end of the socket, or whom a proxy of `--trusted-proxies` says it asks for. */
import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import { plainAddress } from '../util/ip-address.js'

/** 'unknown' on a socket of this machine, and where a trusted proxy gives no address. */
export function clientOf(request: FastifyRequest): string {
  const address = hopAddress(request.ip ?? '')
  return isIP(address) === 0 ? 'unknown' : address
}

/** An address of X-Forwarded-For, which some proxies write with the port. */
export function hopAddress(text: string): string {
  const [, bracketed, dotted] = /^(?:\[([^\]]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+):\d+)$/.exec(text) ?? []
  return plainAddress(bracketed ?? dotted ?? text)
}
