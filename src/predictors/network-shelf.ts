/**
 * The networks of a model of several: as many of the first as fit stay open, the others are opened one at a time, run and
 * closed, so that the memory of a model does not grow with how many networks it has.
 */
import type { NetworkFacts, Networks, Predictor } from '../contract/tensor.js'

export interface ShelfNetwork {
  readonly open: () => Promise<Predictor>
  /** Of its files, which is about what it takes while it is open. */
  readonly bytes: number
}

export class NetworkShelf implements Networks {
  readonly #networks: readonly ShelfNetwork[]
  readonly #stays: readonly boolean[]
  readonly #open = new Map<number, Predictor>()
  readonly #facts = new Map<number, NetworkFacts>()

  /** Those whose `bytes`, added up from the first, come to no more than `keepBytes` stay open. */
  constructor(networks: readonly ShelfNetwork[], keepBytes: number) {
    let sum = 0
    this.#networks = networks
    this.#stays = networks.map(({ bytes }) => {
      sum += bytes
      return sum <= keepBytes
    })
  }

  get count(): number {
    return this.#networks.length
  }

  /** Takes over a network that is open already, to keep or to close as it would its own. */
  async adopt(index: number, network: Predictor): Promise<void> {
    this.#remember(index, network)
    if (this.#stays[index]) this.#open.set(index, network)
    else await network.close()
  }

  async lend<T>(index: number, work: (network: Predictor) => Promise<T>): Promise<T> {
    const open = this.#open.get(index)
    if (open) return work(open)
    const network = await this.#networks[index]!.open()
    this.#remember(index, network)
    if (this.#stays[index]) {
      this.#open.set(index, network)
      return work(network)
    }
    try {
      return await work(network)
    } finally {
      await network.close()
    }
  }

  async facts(index: number): Promise<NetworkFacts> {
    return this.#facts.get(index) ?? this.lend(index, async () => this.#facts.get(index)!)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#open.values()].map((network) => network.close()))
    this.#open.clear()
  }

  #remember(index: number, { inputs, outputs, device, fallbackReason }: Predictor): void {
    this.#facts.set(index, { inputs, outputs, device, fallbackReason })
  }
}

/** One network of several as a predictor that is lent whenever it runs. */
export async function shelvedPredictor(shelf: NetworkShelf, index: number): Promise<Predictor> {
  const facts = await shelf.facts(index)
  return {
    ...facts,
    run: (feeds) => shelf.lend(index, (network) => network.run(feeds)),
    close: () => shelf.close(),
  }
}
