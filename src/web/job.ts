/** The one long thing under way: an upload, a model. Its progress and its cancel. */
import type { RequestState } from './api.js'
import { byId } from './dom.js'

export class Job {
  readonly #panel = byId('job')
  readonly #text = byId('job-text')
  readonly #bar = byId<HTMLProgressElement>('job-progress')
  #abort: AbortController | undefined
  #begun = ''

  constructor() {
    byId('job-cancel').addEventListener('click', () => this.cancel())
  }

  get isUnderWay(): boolean {
    return this.#abort !== undefined
  }

  /** Runs `work`; undefined when it was cancelled. One at a time: a second one is not run, which the page says. */
  async run<T>(text: string, work: (signal: AbortSignal) => Promise<T>): Promise<T | undefined> {
    if (this.#abort) {
      byId('message').textContent =
        `Not begun: ${text}. First ends what is under way (${this.#begun}), or Escape cancels it.`
      return undefined
    }
    const abort = new AbortController()
    this.#abort = abort
    this.#begun = text
    this.#panel.hidden = false
    this.say(text)
    this.progress(undefined)
    try {
      return await work(abort.signal)
    } catch (error) {
      if (abort.signal.aborted) return undefined
      throw error
    } finally {
      this.#abort = undefined
      this.#panel.hidden = true
    }
  }

  cancel(): void {
    this.#abort?.abort(new DOMException('called off', 'AbortError'))
  }

  say(text: string): void {
    this.#text.textContent = text
  }

  progress(fraction: number | undefined): void {
    if (fraction === undefined) this.#bar.removeAttribute('value')
    else this.#bar.value = fraction
  }

  /** A request as the server tells of it. */
  follow(
    model: string,
    { state, queue_place, stage, done, total, part, estimate_seconds, seconds }: RequestState,
  ): void {
    if (state === 'queued') {
      const place =
        queue_place === undefined ? '' : queue_place === 0 ? ': next in the queue' : `: ${queue_place} before you`
      this.say(`${model} waits${place}`)
      this.progress(undefined)
      return
    }
    const left =
      estimate_seconds === undefined ? '' : `, about ${Math.max(1, Math.round(estimate_seconds - seconds))} s left`
    this.say(`${model}: ${STAGES[stage ?? ''] ?? 'works'}${part === undefined ? '' : ` (${part})`}${left}`)
    this.progress(total !== undefined && total > 1 ? (done ?? 0) / total : undefined)
  }
}

const STAGES: Readonly<Record<string, string>> = {
  read: 'reads the scan',
  pre: 'prepares the scan',
  wait: 'waits for the device',
  infer: 'computes',
  post: 'finishes the labels',
  write: 'writes the labels',
}
