/** Drives registry-child.ts: one command at a time, and death at any instant. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface ShownModel {
  readonly name: string
  readonly sha256: string
  readonly generation: number
  readonly state: string
}
export interface Answer {
  readonly ready?: readonly ShownModel[]
  readonly done?: string
  readonly models?: readonly ShownModel[]
  readonly refused?: string
}

export class RegistryProcess {
  readonly #child: ChildProcessWithoutNullStreams
  readonly #lines: AsyncIterator<string>

  private constructor(child: ChildProcessWithoutNullStreams, lines: Interface) {
    this.#child = child
    this.#lines = lines[Symbol.asyncIterator]()
  }

  /** Resolves when its registry is open, with what it shows. */
  static async start(workspace: string, bundledFolder: string, reload: 'auto' | 'manual') {
    const script = fileURLToPath(new URL('registry-child.ts', import.meta.url))
    const child = spawn(process.execPath, ['--import', 'tsx', script, workspace, bundledFolder, reload])
    child.stderr.pipe(process.stderr)
    child.stdin.on('error', () => {})
    const running = new RegistryProcess(child, createInterface({ input: child.stdout }))
    const { ready } = await running.#read()
    return { running, ready: ready! }
  }

  /** The answer; undefined when it died before. */
  async ask(command: Readonly<Record<string, unknown>>): Promise<Answer | undefined> {
    this.#child.stdin.write(`${JSON.stringify(command)}\n`)
    return this.#read().catch(() => undefined)
  }

  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }

  async #read(): Promise<Answer> {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('the process is gone')
    return JSON.parse(value)
  }
}
