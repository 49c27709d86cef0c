/** A place in the line for a device. Releasing twice, or before the grant, is fine. */
export interface DeviceLease {
  release(): void
}

export interface LeaseEvents {
  /** Whether the holder would be content with one place, beside others, now. Absent: never. */
  readonly mayShare?: () => boolean
  /** The device is the holder's, now: all of it, or one place. */
  readonly onGrant: (shared: boolean) => void
  /** Others wait for it, or there is more of it to have than the holder got. Told once, after the grant. */
  readonly onWanted: () => void
}

/** How much there is of a device. */
export interface DeviceRoom {
  /** How many holders it takes at a time if each takes one place. */
  readonly places: number
  /** How many places one takes who does not share. */
  readonly whole: number
}

interface Waiter extends LeaseEvents {
  released: boolean
  told: boolean
  /** Places it holds. */
  held: number
}

interface Device {
  readonly room: DeviceRoom
  readonly holders: Set<Waiter>
  readonly line: Waiter[]
}

/**
 * Grants a device to a bounded number of inferences at a time, first come, first served. A runner asks for its device
 * while it works on one job, never the other way round, so the two cannot wait for each other. Who waits for the whole
 * device is passed by nobody, so that it comes free.
 */
export class DeviceSlots {
  readonly #devices = new Map<string, Device>()
  readonly #room: (device: string) => DeviceRoom

  constructor(room: (device: string) => DeviceRoom) {
    this.#room = room
  }

  /** Calls `onGrant` once when the device is free: at once, or when those before have released it. */
  acquire(device: string, events: LeaseEvents): DeviceLease {
    const entry: Device = this.#devices.get(device) ?? { room: this.#room(device), holders: new Set(), line: [] }
    this.#devices.set(device, entry)
    const waiter: Waiter = { ...events, released: false, told: false, held: 0 }
    entry.line.push(waiter)
    this.#grant(entry)
    return {
      release: () => {
        if (waiter.released) return
        waiter.released = true
        entry.holders.delete(waiter)
        this.#grant(entry)
      },
    }
  }

  /** Tells those who hold a share, and need not share any more, that they may ask for the whole. */
  reconsider(): void {
    for (const { room, holders, line } of this.#devices.values()) {
      const [only] = holders
      if (only && holders.size === 1 && line.length === 0 && only.held < room.whole && !only.mayShare?.()) tell(only)
    }
  }

  #grant({ room, holders, line }: Device): void {
    let free = room.places
    for (const { held } of holders) free -= held
    for (let next = line[0]; next; next = line[0]) {
      const shared = room.whole > 1 && next.mayShare?.() === true
      const wanted = shared ? 1 : room.whole
      if (!next.released && wanted > free) break
      line.shift()
      if (next.released) continue
      next.held = wanted
      free -= wanted
      holders.add(next)
      next.onGrant(shared)
    }
    if (line.length > 0) for (const holder of holders) tell(holder)
  }
}

function tell(holder: Waiter): void {
  if (holder.told) return
  holder.told = true
  holder.onWanted()
}
