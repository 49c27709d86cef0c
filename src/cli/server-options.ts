/** The flags of every command that asks a running server: where it is, who asks, and whose certificate it may show. */
import { readFile } from 'node:fs/promises'
import type { Command, Option } from 'commander'
import { UsageError } from './exit-codes.js'
import { ServerClient } from './server-client.js'

export interface ServerOptions {
  readonly server?: string
  readonly token?: string
  readonly tokenFile?: string
  readonly ca?: string
  readonly insecure?: boolean
}

/** Adds them to the command. `server` says what it means to name a server, or none. */
export function addServerOptions(command: Command, server: Option): Command {
  return command
    .addOption(server)
    .option('--token <token>', 'what the server wants to see, if it wants a token (or AIDANT_TOKEN)')
    .option('--token-file <file>', 'a file with that token, alone or as name:token')
    .option('--ca <file>', 'certificates (PEM) that an https server may be signed with, beside the usual ones')
    .option('--insecure', 'believe any certificate of an https server')
}

/** Rejects UsageError. */
export async function connect(options: ServerOptions & { readonly server: string }): Promise<ServerClient> {
  if (options.ca !== undefined && options.insecure)
    throw new UsageError('--ca and --insecure: one or the other', 'with --insecure any certificate is believed')
  return new ServerClient(options.server, {
    token: await tokenOf(options),
    ca: options.ca === undefined ? undefined : await readFile(options.ca),
    insecure: options.insecure,
  })
}

/** A flag goes before the environment. */
async function tokenOf({ token, tokenFile }: ServerOptions): Promise<string | undefined> {
  if (token !== undefined && tokenFile !== undefined)
    throw new UsageError('--token and --token-file: one or the other', 'a file does not show in the list of processes')
  if (tokenFile === undefined) return token ?? (process.env.AIDANT_TOKEN || undefined)
  const lines = (await readFile(tokenFile, 'utf8')).split(/\r?\n/).map((line) => line.trim())
  const line = lines.find((text) => text !== '' && !text.startsWith('#'))
  if (line === undefined) throw new UsageError('--token-file: there is no token in this file')
  // No token has a colon.
  return line.slice(line.lastIndexOf(':') + 1).trim()
}
