/** Orthanc with its DICOMweb plugin on loopback. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, hasProgram, type Peer, startPeer } from './peer-process.js'

const DICOMWEB_PLUGIN = [
  '/usr/share/orthanc/plugins/libOrthancDicomWeb.so',
  '/usr/lib/orthanc/plugins/libOrthancDicomWeb.so',
].find((path) => existsSync(path))

export const hasOrthanc = hasProgram('Orthanc') && DICOMWEB_PLUGIN !== undefined

export interface Orthanc extends Peer {
  readonly httpPort: number
  readonly dicomPort: number
  readonly aeTitle: string
  /** Where it sends a C-MOVE for title MOVER. */
  readonly movePort: number
  store(folder: string): Promise<void>
  /** Any route of it, with the login it wants. */
  ask(path: string, init?: RequestInit): Promise<Response>
}

export interface OrthancOptions {
  /** Who may ask; nobody has to log in when absent. */
  readonly login?: { readonly user: string; readonly password: string }
}

export async function startOrthanc(folder: string, { login }: OrthancOptions = {}): Promise<Orthanc> {
  const [httpPort, dicomPort, movePort] = [await freePort(), await freePort(), await freePort()]
  const storage = join(folder, 'orthanc')
  await mkdir(storage, { recursive: true })
  const config = join(folder, 'orthanc.json')
  await writeFile(
    config,
    JSON.stringify({
      Name: 'test',
      StorageDirectory: storage,
      IndexDirectory: storage,
      HttpPort: httpPort,
      HttpBindAddresses: ['127.0.0.1'],
      RemoteAccessAllowed: false,
      AuthenticationEnabled: login !== undefined,
      RegisteredUsers: login ? { [login.user]: login.password } : {},
      DicomAet: 'ORTHANC',
      DicomPort: dicomPort,
      DicomAlwaysAllowGet: true,
      DicomAlwaysAllowMove: true,
      DicomModalities: { mover: ['MOVER', '127.0.0.1', movePort] },
      Plugins: [DICOMWEB_PLUGIN],
      DicomWeb: { Enable: true, Root: '/dicom-web/' },
    }),
  )
  const peer = await startPeer('Orthanc', [config], httpPort)
  const headers: Record<string, string> = login
    ? { authorization: `Basic ${Buffer.from(`${login.user}:${login.password}`).toString('base64')}` }
    : {}
  const ask = (path: string, init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${httpPort}${path}`, { ...init, headers: { ...headers, ...init.headers } })
  return {
    httpPort,
    dicomPort,
    movePort,
    aeTitle: 'ORTHANC',
    async store(images) {
      for (const name of readdirSync(images)) {
        const body = new Uint8Array(readFileSync(join(images, name)))
        const reply = await ask('/instances', { method: 'POST', body })
        if (!reply.ok) throw new Error(`Orthanc answered ${reply.status}`)
      }
    },
    ask,
    stop: peer.stop,
  }
}
