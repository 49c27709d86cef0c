/**
 * A server's registry in a process of its own, to be killed: argv are the workspace, the bundled folder, 'auto' or
 * 'manual'. Lines on stdin are commands ({"op", "name", "config", "data"}); each is answered by a line on stdout.
 */
import { createInterface } from 'node:readline'
import { AppError } from '../../src/errors.js'
import { openRegistry } from '../../src/registry/open-registry.js'
import { silentLog } from '../../src/util/log.js'
import { openWorkspace } from '../../src/workspace/open-workspace.js'

const [folder, bundledFolder, reload] = process.argv.slice(2)
const registry = await openRegistry({
  workspace: await openWorkspace(folder!, { log: silentLog }),
  bundledFolder: bundledFolder!,
  catalog: '',
  autoReload: reload === 'auto',
  scheduler: { prove: async () => ({ inputs: [], outputs: [], device: 'cpu' }), retire: async () => {} },
  limits: { maxEntries: 100, maxBytes: 1 << 20, maxConfigBytes: 1 << 20 },
  log: silentLog,
})

const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`)
const summary = () =>
  registry.list().map(({ name, sha256, generation, state }) => ({ name, sha256, generation, state }))
say({ ready: summary() })

for await (const line of createInterface({ input: process.stdin })) {
  const { op, name, config, data } = JSON.parse(line)
  try {
    if (op === 'put') await registry.put(name, { kind: 'files', config, data })
    else if (op === 'patch') await registry.patch(name, config)
    else if (op === 'remove') await registry.remove(name)
    say({ done: op, models: summary() })
  } catch (error) {
    say({ refused: error instanceof AppError ? error.code : String(error) })
  }
}
await registry.close()
