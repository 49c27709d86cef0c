/** Python as an oracle: nibabel, SimpleITK and the like, where a machine has them. */
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)
const known = new Map<string, string | undefined>()

/** The interpreter (AIDANT_PYTHON, else python3) when it can import all of `modules`, else undefined: skip then. */
export function pythonWith(modules: readonly string[]): string | undefined {
  const key = modules.join()
  if (!known.has(key)) {
    const python = process.env.AIDANT_PYTHON ?? 'python3'
    const found = spawnSync(python, ['-c', `import ${['sys', ...modules].join(', ')}`], { stdio: 'ignore' })
    known.set(key, found.status === 0 ? python : undefined)
  }
  return known.get(key)
}

/** Runs a script with arguments and gives what it printed, as JSON. */
export async function pythonJson(python: string, script: string, args: readonly string[] = []): Promise<unknown> {
  const { stdout } = await run(python, ['-c', script, ...args], { maxBuffer: 64 * 1024 * 1024 })
  return JSON.parse(stdout)
}
