/** Runner programs in the test's own hands: it reads what the scheduler sends and answers when it likes. */
import type { JobResult } from '../../src/contract/job.js'
import { FromRunner, ToRunner } from '../../src/contract/wire.js'
import type { ChannelEvents, SpawnRunner } from '../../src/scheduler/spawn-runner.js'

export class FakeRunner {
  readonly pid: number
  readonly sent: ToRunner[] = []
  killed = false
  /** Does not answer when asked whether it lives. */
  deaf = false
  readonly #events: ChannelEvents
  readonly #settings: FakeFarmSettings

  constructor(pid: number, events: ChannelEvents, settings: FakeFarmSettings) {
    this.pid = pid
    this.#events = events
    this.#settings = settings
  }

  /** The model it was told to load. */
  get model(): string | undefined {
    const first = this.sent[0]
    return first && 'model' in first ? first.model?.name : undefined
  }

  /** The id of the job it was told last. */
  get job(): number {
    return this.sent.flatMap((message) => (message.type === 'run' ? [message.id] : [])).at(-1) ?? 0
  }

  get params(): Readonly<Record<string, unknown>> | undefined {
    return this.sent.flatMap((message) => (message.type === 'run' ? [message.job.params] : [])).at(-1)
  }

  receive(message: ToRunner): void {
    this.sent.push(ToRunner.parse(JSON.parse(JSON.stringify(message))))
    if (message.type === 'load' && this.#settings.loadsAtOnce) {
      const { shares } = this.#settings
      this.say({ type: 'loaded', device: 'cpu', ...(shares ? { shares } : {}) })
    }
  }

  /** What a runner could send: the wire's own schema sees to that. */
  say(message: FromRunner): void {
    this.#events.message(FromRunner.parse(JSON.parse(JSON.stringify(message))))
  }

  /** What no runner should send. */
  babble(message: unknown): void {
    this.#events.message(message)
  }

  finish(result: Partial<JobResult> = {}): void {
    this.say({ type: 'done', id: this.job, result: { params: {}, timings: {}, notes: [], ...result } })
  }

  die(code: number | null, signal: NodeJS.Signals | null): void {
    this.killed = true
    this.#events.exit(code, signal, '')
  }
}

export interface FakeFarmSettings {
  readonly loadsAtOnce: boolean
  /** Their networks can run on a share of the cores. */
  readonly shares?: boolean
}

/** All fake runners started so far, and the function that starts them. */
export class FakeFarm {
  readonly runners: FakeRunner[] = []
  readonly #settings: FakeFarmSettings

  constructor(settings: FakeFarmSettings = { loadsAtOnce: true }) {
    this.#settings = settings
  }

  readonly spawn: SpawnRunner = (_entry, events) => {
    // Beyond the system's largest process id, so that no real process is ever asked for its memory.
    const runner = new FakeRunner(10_000_000 + this.runners.length, events, this.#settings)
    this.runners.push(runner)
    return {
      pid: runner.pid,
      send: (message) => {
        // At once, since a test moves minutes of time in one step.
        if (message.type === 'ping') return runner.deaf || runner.killed ? undefined : runner.say({ type: 'pong' })
        queueMicrotask(() => runner.killed || runner.receive(message))
      },
      kill: () => queueMicrotask(() => runner.killed || runner.die(null, 'SIGKILL')),
    }
  }

  get last(): FakeRunner {
    return this.runners.at(-1)!
  }

  alive(): FakeRunner[] {
    return this.runners.filter(({ killed }) => !killed)
  }
}

/** Lets promises and microtasks settle. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
