/** The real program as a process of its own, to be asked over HTTP and killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const compiled = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url))

export class ServerProcess {
  readonly url: string
  readonly #child: ChildProcess
  readonly #output: string[]

  private constructor(child: ChildProcess, url: string, output: string[]) {
    this.#child = child
    this.url = url
    this.#output = output
  }

  /** All that the process has written to standard output and standard error. */
  get output(): string {
    return this.#output.join('')
  }

  /** Listens on a free loopback port; resolves when it does. */
  static async start(workspace: string, flags: readonly string[] = []): Promise<ServerProcess> {
    return ServerProcess.run(['--import', 'tsx', main], workspace, flags)
  }

  /** The compiled program where there is one, as `npm test` makes it: it starts in a fraction of the time. */
  static async startCompiled(workspace: string, flags: readonly string[] = []): Promise<ServerProcess> {
    return existsSync(compiled)
      ? ServerProcess.run([compiled], workspace, flags)
      : ServerProcess.start(workspace, flags)
  }

  private static async run(program: string[], workspace: string, flags: readonly string[]): Promise<ServerProcess> {
    const words = [...program, 'serve', '--port', '0', '--workspace', workspace, ...flags]
    const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] })
    const said: string[] = []
    const output: string[] = []
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes) => output.push(String(bytes)))
    for await (const line of createInterface({ input: child.stderr! })) {
      said.push(line)
      const url = /listens on (\S+)/.exec(line)?.[1]
      if (url === undefined) continue
      child.stderr!.resume()
      return new ServerProcess(child, url, output)
    }
    throw new Error(`the server did not start: ${said.join('\n')}`)
  }

  get pid(): number {
    return this.#child.pid!
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill(signal)
      await once(this.#child, 'exit')
    }
    return this.#child.exitCode
  }
}
