/** From a Config to a listening server, and to an orderly end. */
import type { Server as HttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as wait } from 'node:timers/promises'
import closeWithGrace from 'close-with-grace'
import { buildApp } from './app.js'
import type { Config } from './config/schema.js'
import { createServices, type Services } from './services.js'
import { isLoopback } from './util/ip-address.js'

/** After the grace for running jobs, this long for sockets and children to go; then the process ends anyway. */
const CLOSE_MS = 10_000

export interface RunningServer {
  /** Without a trailing slash, reachable from this machine. */
  readonly url: string
  readonly services: Services
  close(): Promise<void>
}

/**
 * Creates the services, builds the application and listens on the config's address, or on a socket (a named pipe on Windows)
 * that only programs of this machine reach. Throws the system's error when it cannot (EADDRINUSE …).
 */
export async function startServer(config: Config, socket?: { readonly socketPath: string }): Promise<RunningServer> {
  const services = await createServices(config)
  try {
    const app = await buildApp(services, config)
    const { tls } = services
    if (tls) tls.onChange = (options) => (app.server as unknown as HttpsServer).setSecureContext(options)
    const host = config.host.replace(/^\[|\]$/g, '')
    await app.listen(socket ? { path: socket.socketPath } : { host, port: config.port })
    const port = socket ? 0 : (app.server.address() as AddressInfo).port
    const close = async () => {
      services.announceEnd()
      await wait(config.shutdownDelay * 1000)
      // Jobs first: their responses still have to leave through the sockets that the application then closes.
      app.server.close()
      await services.stopJobs(config.shutdownGrace * 1000)
      await app.close()
      await services.close()
    }
    return { url: `${tls ? 'https' : 'http'}://${urlHost(config.host)}:${port}`, services, close }
  } catch (error) {
    await services.stopJobs(0)
    await services.close()
    throw error
  }
}

/** `unknown` names variables of the environment that look like settings and are none. Starts, says where everything is, and closes with grace on SIGTERM, SIGINT or an uncaught error. */
export async function serve(config: Config, unknown: readonly string[] = []): Promise<void> {
  const server = await startServer(config)
  // A hang-up asks for new tokens and certificates where there are some, and ends the server, as a closed terminal does, where not.
  const { tokens, tls } = server.services
  const skip = tokens.guards('admin') || tls ? (['SIGHUP'] as const) : []
  for (const signal of skip) process.on(signal, () => void server.services.reload())
  closeWithGrace(
    { delay: (config.shutdownDelay + config.shutdownGrace) * 1000 + CLOSE_MS, logger: false, skip: [...skip] },
    async ({ signal, err }) => {
      if (err) server.services.logger.fatal({ err }, 'uncaught error; closing')
      else server.services.logger.info({ signal }, 'closing')
      await server.close()
    },
  )
  if (unknown.length > 0)
    server.services.logger.warn({ variables: unknown }, 'variables of the environment that are no settings are ignored')
  const lines = [
    `Aidant listens on ${server.url}`,
    `  API        ${server.url}/v1/models`,
    `  docs       ${server.url}/docs`,
    `  workspace  ${server.services.workspace}`,
  ]
  process.stderr.write(`${lines.join('\n')}\n`)
  if (!isLoopback(config.host) && config.adminHosts.includes('*') && !tokens.guards('admin'))
    process.stderr.write(
      `WARNING: ${config.host} is reachable from other machines and /admin is open to all of them.\n` +
        '         Anyone there can load, change and remove models. Use --admin-hosts or --admin-token-file to say who may.\n',
    )
}

function urlHost(host: string): string {
  const bare = host.replace(/^\[|\]$/g, '')
  if (bare === '0.0.0.0' || bare === '::') return '127.0.0.1'
  return bare.includes(':') ? `[${bare}]` : bare
}
