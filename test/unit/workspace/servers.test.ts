import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { thisProcess } from '../../../src/util/process-identity.js'
import { Servers } from '../../../src/workspace/servers.js'

let root: string
let leases: string
let tmp: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'aidant-servers-'))
  leases = join(root, 'servers')
  tmp = join(root, 'tmp')
  for (const folder of [leases, tmp]) mkdirSync(folder)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
const setLease = (name: string, process: object) =>
  writeFileSync(join(leases, `${name}.lease`), JSON.stringify({ owner: 'x', use: 'server', process }))
const leasesLeft = () => readdirSync(leases).map((name) => name.replace('.lease', ''))

test.skipIf(process.platform !== 'linux')(
  'a server that ends while another looks around keeps its lease for as long as its folder (needs /proc)',
  async () => {
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
    await once(child, 'spawn')
    const startedAt = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')[19]!
    for (let i = 0; i < 4; i++) mkdirSync(join(tmp, `server-${randomUUID()}`))
    // In the order in which a look around meets them: the first lives until the look has come to the second.
    const [living, ...dead] = readdirSync(tmp)
    setLease(living!, { ...thisProcess, pid: child.pid, startedAt })
    for (const name of dead) setLease(name, { ...thisProcess, pid: 2 ** 22 + 1, startedAt: '1' })

    const discard = async (path: string) => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL')
        await once(child, 'exit')
      }
      rmSync(path, { recursive: true, force: true })
    }
    const servers = new Servers({ leases, tmp, discard, log })
    await servers.sweep()
    expect([readdirSync(tmp), leasesLeft()]).toEqual([[living], [living]])
    await servers.sweep()
    expect([readdirSync(tmp), leasesLeft()]).toEqual([[], []])
  },
)
