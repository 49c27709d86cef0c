/**
 * DNS rebinding: a web page that makes its own name point at this server reaches it with that name in the Host header,
 * and its browser takes the two for one origin. So /admin and /logs, and on a loopback bind everything, answer only to
 * what such a page cannot be called: an address, a loopback name, this machine's own name, and what the operator lists.
 * On other binds /v1 and /session answer to any name, since clients reach a container by names it does not know.
 */
import { isIP } from 'node:net'
import { hostname } from 'node:os'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../../errors.js'
import { isLoopback } from '../../util/ip-address.js'
import { type IsGuarded, isAdminPath } from '../admin-paths.js'

export interface HostGuardOptions {
  /** The address the server is bound to. */
  readonly host: string
  readonly allowedHosts: readonly string[]
  /** By default the operator's routes. */
  readonly isGuarded?: IsGuarded
}

export const hostGuard = fp(
  async (app: FastifyInstance, { host, allowedHosts, isGuarded = isAdminPath }: HostGuardOptions) => {
    if (allowedHosts.includes('*')) return
    const everywhere = isLoopback(host)
    const names = new Set([host, ...machineNames(), ...allowedHosts].map(hostName))
    app.addHook('onRequest', async (request) => {
      // The route that was found, since a path can be spelled in many ways.
      if (!everywhere && !isGuarded(request.routeOptions.url ?? request.url)) return
      // What a trusted proxy was called, where one is in between.
      const header = request.host
      if (header === '') return
      const name = hostName(header)
      if (isIP(name) !== 0 || isLoopback(name) || names.has(name)) return
      throw new AppError(
        'FORBIDDEN',
        `this server does not answer ${everywhere ? '' : 'here '}to the host name '${name.slice(0, 80)}'`,
        {
          hint: `use its address, or start it with --allowed-hosts naming it${everywhere ? ' (--host for other machines)' : ''}`,
        },
      )
    })
  },
  { name: 'host-guard' },
)

/** What this machine calls itself: in full, in short, and as multicast DNS has it. */
function machineNames(): string[] {
  const full = hostname()
  const short = full.split('.')[0]!
  return [full, short, `${short}.local`]
}

/** 'Name.:5000' → 'name', '[::1]:5000' → '::1'. */
function hostName(header: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(header)
  return (bracketed ? bracketed[1]! : header.replace(/:\d*$/, '').replace(/\.$/, '')).toLowerCase()
}
