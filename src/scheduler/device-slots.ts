/** A place in the line for a device. Releasing twice, or before the grant, is fine. */
export interface DeviceLease {
  release(): void
}

export interface LeaseEvents {
  /** The device is free for the holder, now. */
  readonly onGrant: () => void
  /** Others wait for it. Told once, after the grant. */
  readonly onWanted: () => void
}

interface Waiter extends LeaseEvents {
  released: boolean
  told: boolean
}

interface Device {
  readonly holders: Set<Waiter>
  readonly line: Waiter[]
}

/**
 * Grants a device to a bounded number of inferences at a time, first come, first served. A runner asks for its device
 * while it works on one job, never the other way round, so the two cannot wait for each other.
 */
export class DeviceSlots {
  readonly #devices = new Map<string, Device>()
  readonly #capacity: (device: string) => number

  constructor(capacity: (device: string) => number) {
    this.#capacity = capacity
  }

  /** Calls `onGrant` once when the device is free: at once, or when those before have released it. */
  acquire(device: string, events: LeaseEvents): DeviceLease {
    const entry = this.#devices.get(device) ?? { holders: new Set(), line: [] }
    this.#devices.set(device, entry)
    const waiter: Waiter = { ...events, released: false, told: false }
    entry.line.push(waiter)
    this.#grant(device, entry)
    return {
      release: () => {
        if (waiter.released) return
        waiter.released = true
        entry.holders.delete(waiter)
        this.#grant(device, entry)
      },
    }
  }

  #grant(device: string, { holders, line }: Device): void {
    for (let next = line[0]; next; next = line[0]) {
      if (!next.released && holders.size >= this.#capacity(device)) break
      line.shift()
      if (next.released) continue
      holders.add(next)
      next.onGrant()
    }
    if (line.length === 0) return
    for (const holder of holders) {
      if (holder.told) continue
      holder.told = true
      holder.onWanted()
    }
  }
}
