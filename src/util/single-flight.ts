/**
 * Runs `load` once per key however many callers arrive together. A failure is handed to every waiter
 * and then forgotten, so the next caller tries again.
 */
export class SingleFlight<K, V> {
  readonly #entries = new Map<K, Promise<V>>()

  get(key: K, load: () => Promise<V>): Promise<V> {
    const known = this.#entries.get(key)
    if (known) return known
    const fresh = load()
    this.#entries.set(key, fresh)
    fresh.catch(() => {
      if (this.#entries.get(key) === fresh) this.#entries.delete(key)
    })
    return fresh
  }

  forget(key: K): void {
    this.#entries.delete(key)
  }
}
