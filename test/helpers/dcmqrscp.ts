/** DCMTK's query/retrieve server on loopback. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort, hasProgram, type Peer, runProgram, startPeer } from './peer-process.js'

export const hasDcmqrscp = hasProgram('dcmqrscp') && hasProgram('storescu')

export interface Dcmqrscp extends Peer {
  readonly port: number
  readonly aeTitle: string
  /** Where it sends a C-MOVE for title MOVER. */
  readonly movePort: number
  store(folder: string): void
}

/** `getOff`: it refuses C-GET, so that only C-MOVE is left. */
export async function startDcmqrscp(folder: string, { getOff = false } = {}): Promise<Dcmqrscp> {
  const [port, movePort] = [await freePort(), await freePort()]
  const database = join(folder, 'qr')
  await mkdir(database, { recursive: true })
  const config = join(folder, 'dcmqrscp.cfg')
  await writeFile(
    config,
    [
      `NetworkTCPPort = ${port}`,
      'MaxPDUSize = 131072',
      'MaxAssociations = 16',
      'HostTable BEGIN',
      `mover = (MOVER, localhost, ${movePort})`,
      'HostTable END',
      'VendorTable BEGIN',
      'VendorTable END',
      'AETable BEGIN',
      `QRSCP ${database} RW (500, 1024mb) ANY`,
      'AETable END',
      '',
    ].join('\n'),
  )
  const peer = await startPeer('dcmqrscp', ['-c', config, ...(getOff ? ['--disable-get'] : [])], port)
  return {
    port,
    movePort,
    aeTitle: 'QRSCP',
    store: (images) => runProgram('storescu', ['+sd', '-aec', 'QRSCP', '127.0.0.1', String(port), images]),
    stop: peer.stop,
  }
}
