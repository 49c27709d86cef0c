/** A server inside this process, for commands that nobody has started one for: it listens on a socket, not on a port. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { loadConfig } from '../config/load.js'
import { ServerClient } from './server-client.js'

export interface LocalServer {
  readonly client: ServerClient
  /** Ends what is under way, gives the models' memory back and removes what is temporary. */
  close(): Promise<void>
}

export interface LocalServerWish {
  /** A workspace whose models are to be used; without it a fresh one, with the bundled models, for as long as it runs. */
  readonly workspace?: string | undefined
  readonly device?: string | undefined
  /** A datastore's folder. */
  readonly datastore?: string | undefined
}

/** The socket lies in a folder that only this user may enter. */
const ALONE = {
  shutdownDelay: 0,
  shutdownGrace: 0,
  apiTokenFile: '',
  adminTokenFile: '',
  ssl: false,
  metrics: false,
  auditLog: '',
} as const

/** Settings come from the environment as they do for `aidant serve`; nothing is logged but warnings. */
export async function startLocalServer({ workspace, device, datastore }: LocalServerWish = {}): Promise<LocalServer> {
  const folder = await mkdtemp(join(tmpdir(), 'aidant-'))
  try {
    const flags = ['--log-level', 'silent', ...(device === undefined ? [] : ['--device', device])]
    if (datastore !== undefined) flags.push('--datastore', resolve(datastore))
    const place = workspace ?? process.env.AIDANT_WORKSPACE ?? join(folder, 'workspace')
    const config = loadConfig([...flags, '--workspace', place], process.env)
    const socketPath =
      process.platform === 'win32' ? `\\\\.\\pipe\\aidant-${process.pid}-${Date.now()}` : join(folder, 'socket')
    const { startServer } = await import('../server.js')
    const server = await startServer({ ...config, ...ALONE }, { socketPath })
    return {
      client: new ServerClient({ socketPath }),
      close: async () => {
        await server.close()
        await rm(folder, { recursive: true, force: true })
      },
    }
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
}
