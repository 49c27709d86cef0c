/**
 * Triton (PyPI nvidia-pytriton) and KServe's Python server (PyPI kserve) with the networks of test/peers/engine_peer.py. They
 * need an environment of their own (test/requirements-engines.txt), whose interpreter AIDANT_ENGINES_PYTHON names.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { freePort } from './peer-process.js'

export type EngineKind = 'triton' | 'kserve'

const SCRIPT = fileURLToPath(new URL('../peers/engine_peer.py', import.meta.url))
const ONNX = fileURLToPath(new URL('../../models/hippocampus_mri/model.onnx', import.meta.url))
const NETWORKS = ['network', 'failing', 'flat', 'fickle', 'slow']
const MODULES: Readonly<Record<EngineKind, string>> = { triton: 'pytriton', kserve: 'kserve' }

/** The interpreter that has this server, else undefined: skip then. */
export function enginePython(kind: EngineKind): string | undefined {
  const python = process.env.AIDANT_ENGINES_PYTHON
  if (python === undefined) return undefined
  const found = spawnSync(python, [
    '-c',
    `import onnxruntime, importlib.util as u; assert u.find_spec('${MODULES[kind]}')`,
  ])
  return found.status === 0 ? python : undefined
}

export class EnginePeer {
  readonly url: string
  readonly #port: number
  readonly #python: string
  readonly #kind: EngineKind
  #child: ChildProcess | undefined
  #said = ''
  #isAsked = false

  private constructor(python: string, kind: EngineKind, port: number) {
    this.#python = python
    this.#kind = kind
    this.#port = port
    this.url = `http://127.0.0.1:${port}`
  }

  static async start(python: string, kind: EngineKind): Promise<EnginePeer> {
    const peer = new EnginePeer(python, kind, await freePort())
    await peer.start()
    return peer
  }

  /** Again on the same port, after `kill`; resolves when every network is ready. `fickle` is what its output is called. */
  async start(fickle = 'output'): Promise<void> {
    this.#said = ''
    this.#isAsked = false
    // A process group of its own: Triton is a program beside Python, with a stub for each network.
    const child = spawn(this.#python, [SCRIPT, this.#kind, String(this.#port), ONNX, fickle], {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    })
    this.#child = child
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => {
        this.#said = (this.#said + chunk.toString()).slice(-20_000)
      })
    // On this stream alone: the logs of the other one would cut its lines in two, and push it out of what is kept.
    child.stdout.on('data', (chunk: Buffer) => {
      this.#isAsked ||= /\basked\b/.test(chunk.toString())
    })
    for (const network of NETWORKS)
      for (let tries = 0; !(await this.#isReady(network)); tries++) {
        if (child.exitCode !== null || tries > 1000) throw new Error(`${this.#kind} did not start: ${this.#said}`)
        await new Promise((resolve) => setTimeout(resolve, 100))
      }
  }

  /** Whether it computes: Triton calls a network ready before the Python behind it can be asked. */
  async #isReady(network: string): Promise<boolean> {
    const shape = [1, 1, 48, 48, 48]
    const input = { name: 'input', shape, datatype: 'FP32', data: new Array<number>(48 ** 3).fill(0) }
    try {
      const reply = await fetch(`${this.url}/v2/models/${network}/infer`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ id: 'ready', inputs: [input] }),
      })
      await reply.arrayBuffer()
      return reply.ok
    } catch {
      return false
    }
  }

  /** Whether `slow` has a request in hand. */
  get isAsked(): boolean {
    return this.#isAsked
  }

  /** All of it at once, as when its machine is gone. */
  async kill(): Promise<void> {
    const child = this.#child
    if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return
    process.kill(-child.pid, 'SIGKILL')
    await once(child, 'exit')
  }
}
