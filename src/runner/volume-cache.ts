import { LRUCache } from 'lru-cache'
import type { ItemCache } from '../pipelines/run.js'
import type { Item } from '../transforms/types.js'

/**
 * Pre-transformed images of recent sessions, least recently used out first, bounded in bytes. An item larger than the
 * whole cache is not kept.
 */
export class VolumeCache implements ItemCache {
  readonly #items: LRUCache<string, Item> | undefined

  /** `maxBytes` 0 keeps nothing. */
  constructor(maxBytes: number) {
    this.#items = maxBytes > 0 ? new LRUCache({ maxSize: maxBytes, sizeCalculation: itemBytes }) : undefined
  }

  get(key: string): Item | undefined {
    return this.#items?.get(key)
  }

  set(key: string, item: Item): void {
    this.#items?.set(key, item)
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#items?.calculatedSize ?? 0
  }
}

/** Bytes of the buffers an item holds, each counted once, plus a little for the rest. */
export function itemBytes(item: Item): number {
  const buffers = new Set<ArrayBufferLike>()
  for (const { volume } of item.images.values()) buffers.add(volume.data.buffer)
  for (const value of item.values.values()) if (ArrayBuffer.isView(value)) buffers.add(value.buffer)
  let bytes = 1024
  for (const buffer of buffers) bytes += buffer.byteLength
  return bytes
}
