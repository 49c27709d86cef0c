/**
 * Waiting work, in fair order among clients: each client's own is first come, first served, and the clients take turns.
 * A client that posts a hundred scans delays another's one by at most one job.
 */
export class FairQueue<T> {
  /** In turn order: the first client's first item comes next. */
  readonly #clients = new Map<string, T[]>()
  #size = 0

  get size(): number {
    return this.#size
  }

  push(client: string, item: T): void {
    const items = this.#clients.get(client)
    if (items) items.push(item)
    else this.#clients.set(client, [item])
    this.#size++
  }

  /** The item that `shift` would give. */
  peek(): T | undefined {
    for (const items of this.#clients.values()) return items[0]
    return undefined
  }

  /** Takes the next item; its client goes to the end of the turns. */
  shift(): T | undefined {
    for (const [client, items] of this.#clients) {
      const item = items.shift()
      this.#clients.delete(client)
      if (items.length > 0) this.#clients.set(client, items)
      this.#size--
      return item
    }
    return undefined
  }

  /** Takes an item out of turn; its client goes to the end of the turns all the same. */
  take(item: T): void {
    for (const [client, items] of this.#clients) {
      if (!items.includes(item)) continue
      this.remove(item)
      if (items.length === 0) return
      this.#clients.delete(client)
      this.#clients.set(client, items)
      return
    }
  }

  /** Whether the item was waiting. */
  remove(item: T): boolean {
    for (const [client, items] of this.#clients) {
      const at = items.indexOf(item)
      if (at < 0) continue
      items.splice(at, 1)
      if (items.length === 0) this.#clients.delete(client)
      this.#size--
      return true
    }
    return false
  }

  /** All items in the order in which `shift` would give them if nothing else came. */
  inOrder(): T[] {
    const order: T[] = []
    for (let round = 0; order.length < this.#size; round++)
      for (const items of this.#clients.values()) if (round < items.length) order.push(items[round]!)
    return order
  }
}
