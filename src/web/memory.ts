/**
 * What this browser remembers of a session, so that a link to it brings everything back: segments, clicks, voxels. It lies
 * in IndexedDB; the scan itself lies with the server. The oldest sessions are forgotten.
 */
import { gunzip, gzip } from './gzip.js'
import { LabelMap } from './label-map.js'
import type { Scan } from './scan.js'
import type { Doc, Store } from './store.js'

interface Record {
  readonly session: string
  readonly name: string
  readonly savedAt: number
  readonly doc: Doc
  readonly size: readonly [number, number, number]
  readonly labels: Blob
}

const MOST_SESSIONS = 20
/** Packing waits until the mask of a click is on the screen, and takes quick changes together. */
const PAUSE_MS = 400

export interface Kept {
  readonly name?: string
  readonly doc: Doc
  readonly labels: LabelMap
}

export class Memory {
  readonly #opened: Promise<IDBDatabase>
  /** Writes one after the other, so that the last state is the one that stays. */
  #writing: Promise<void> = Promise.resolve()
  /** What is to be written, by session: work on one goes on while another is opened. */
  readonly #waiting = new Map<string, { readonly scan: Scan; readonly doc: Doc; readonly labels: LabelMap }>()

  /** Ends the pause before the next writing. */
  #hurry: () => void = () => undefined

  constructor() {
    // The tab goes away, or may: what waits is written while it still can be.
    document.addEventListener('visibilitychange', () => this.#hurry())
    this.#opened = new Promise((resolve, reject) => {
      const request = indexedDB.open('aidant', 1)
      request.onupgradeneeded = () => request.result.createObjectStore('sessions', { keyPath: 'session' })
      request.onsuccess = () => resolve(request.result)
      request.onerror = () => reject(request.error)
    })
    // Without storage, in a private window, links bring the scan alone.
    this.#opened.catch(() => undefined)
  }

  async recall(session: string): Promise<Kept | undefined> {
    const record = await this.#do<Record | undefined>('readonly', (store) => store.get(session)).catch(() => undefined)
    if (!record) return undefined
    const labels = await gunzip(new Uint8Array(await record.labels.arrayBuffer()))
    return { name: record.name, doc: record.doc, labels: new LabelMap(record.size, new Uint8Array(labels)) }
  }

  /** Writes the state of a session in a moment. Calls that come meanwhile become one. */
  keep(scan: Scan, { doc, labels }: Pick<Store, 'doc' | 'labels'>): Promise<void> {
    const isAwaited = this.#waiting.size > 0
    this.#waiting.set(scan.session, { scan, doc, labels })
    if (isAwaited) return this.#writing
    this.#writing = this.#writing
      .then(async () => {
        await new Promise<void>((resolve) => {
          this.#hurry = resolve
          setTimeout(resolve, PAUSE_MS)
        })
        const kept = [...this.#waiting.values()]
        this.#waiting.clear()
        for (const { scan, doc, labels } of kept) {
          const record: Record = {
            session: scan.session,
            name: scan.name,
            savedAt: Date.now(),
            doc,
            size: labels.size,
            labels: await gzip(labels.data),
          }
          await this.#do('readwrite', (store) => store.put(record))
        }
        await this.#forget()
      })
      .catch(() => undefined)
    return this.#writing
  }

  /** Resolves when everything so far is written. */
  settle(): Promise<void> {
    this.#hurry()
    return this.#writing
  }

  async #forget(): Promise<void> {
    const records = await this.#do<Record[]>('readonly', (store) => store.getAll())
    const old = records.sort((a, b) => b.savedAt - a.savedAt).slice(MOST_SESSIONS)
    for (const { session } of old) await this.#do('readwrite', (store) => store.delete(session))
  }

  async #do<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest): Promise<T> {
    const database = await this.#opened
    return new Promise((resolve, reject) => {
      const request = work(database.transaction('sessions', mode).objectStore('sessions'))
      request.onsuccess = () => resolve(request.result as T)
      request.onerror = () => reject(request.error)
    })
  }
}
