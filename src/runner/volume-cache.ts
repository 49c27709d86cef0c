import { LRUCache } from 'lru-cache'
import type { EncoderMemory, Tensors } from '../inferers/two-parts.js'
import type { ItemCache } from '../pipelines/run.js'
import type { Item } from '../transforms/types.js'

/**
 * Pre-transformed images of recent sessions, and what encoders made of them, least recently used out first, bounded in
 * bytes together. An item larger than the whole cache is not kept.
 */
export class VolumeCache implements ItemCache {
  readonly #items: LRUCache<string, Kept> | undefined
  readonly tensors: EncoderMemory

  /** `maxBytes` 0 keeps nothing. */
  constructor(maxBytes: number) {
    this.#items = maxBytes > 0 ? new LRUCache({ maxSize: maxBytes, sizeCalculation: bytesOf }) : undefined
    this.tensors = {
      get: (key) => this.#items?.get(`tensors ${key}`)?.tensors,
      set: (key, tensors) => void this.#items?.set(`tensors ${key}`, { tensors }),
    }
  }

  get(key: string): Item | undefined {
    return this.#items?.get(`item ${key}`)?.item
  }

  set(key: string, item: Item): void {
    this.#items?.set(`item ${key}`, { item })
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#items?.calculatedSize ?? 0
  }
}

/** One of the two. */
interface Kept {
  readonly item?: Item
  readonly tensors?: Tensors
}

function bytesOf({ item, tensors }: Kept): number {
  return item ? itemBytes(item) : tensorBytes(tensors ?? {})
}

function tensorBytes(tensors: Tensors): number {
  const buffers = new Set(Object.values(tensors).map(({ data }) => data.buffer))
  let bytes = 1024
  for (const buffer of buffers) bytes += buffer.byteLength
  return bytes
}

/** Bytes of the buffers an item holds, each counted once, plus a little for the rest. */
export function itemBytes(item: Item): number {
  const buffers = new Set<ArrayBufferLike>()
  for (const { volume, valueTable } of item.images.values()) {
    buffers.add(volume.data.buffer)
    if (valueTable) buffers.add(valueTable.values.buffer)
  }
  for (const value of item.values.values()) if (ArrayBuffer.isView(value)) buffers.add(value.buffer)
  let bytes = 1024
  for (const buffer of buffers) bytes += buffer.byteLength
  return bytes
}
