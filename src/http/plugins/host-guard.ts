/**
 * DNS rebinding: a web page that makes its own name point at 127.0.0.1 reaches a loopback server with its name in the
 * Host header. So a server bound to loopback answers to addresses, to localhost and to what the operator names, only.
 */
import { isIP } from 'node:net'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { AppError } from '../../errors.js'

export interface HostGuardOptions {
  /** The address the server is bound to. */
  readonly host: string
  readonly allowedHosts: readonly string[]
}

export const hostGuard = fp(
  async (app: FastifyInstance, { host, allowedHosts }: HostGuardOptions) => {
    if (!isLoopback(host) || allowedHosts.includes('*')) return
    const names = new Set(['localhost', host.toLowerCase(), ...allowedHosts.map((name) => name.toLowerCase())])
    app.addHook('onRequest', async (request) => {
      const header = request.headers.host
      if (header === undefined || header === '') return
      const name = hostName(header)
      if (names.has(name) || name.endsWith('.localhost') || isIP(name) !== 0) return
      throw new AppError('FORBIDDEN', `this server does not answer to the host name '${name.slice(0, 80)}'`, {
        hint: 'use http://127.0.0.1, or start the server with --allowed-hosts naming it (--host for other machines)',
      })
    })
  },
  { name: 'host-guard' },
)

export function isLoopback(host: string): boolean {
  const name = host.replace(/^\[|\]$/g, '').toLowerCase()
  return name === 'localhost' || name === '::1' || /^127\./.test(name) || /^::ffff:127\./.test(name)
}

/** 'Name:5000' → 'name', '[::1]:5000' → '::1'. */
function hostName(header: string): string {
  const bracketed = /^\[([^\]]*)\]/.exec(header)
  return (bracketed ? bracketed[1]! : header.replace(/:\d*$/, '')).toLowerCase()
}
