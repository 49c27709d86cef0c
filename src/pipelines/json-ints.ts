import type { FileHandle } from 'node:fs/promises'
import { AppError } from '../errors.js'

const CHUNK_BYTES = 1024 * 1024
/** Room for what is written between two looks at the space left: a number of up to ten digits and its commas. */
const MARGIN = 16

const OPEN = 0x5b
const CLOSE = 0x5d
const COMMA = 0x2c
const ZERO = 0x30

/**
 * Writes nested lists of whole numbers >= 0 as JSON, straight into bytes: polygons of a large mask would otherwise exist
 * three times, as numbers, as arrays of arrays and as text.
 */
export class JsonInts {
  readonly #file: FileHandle
  readonly #mostBytes: number
  readonly #chunk = new Uint8Array(CHUNK_BYTES)
  #used = 0
  #written = 0

  /** Crossing `mostBytes` rejects TOO_LARGE. */
  constructor(file: FileHandle, mostBytes: number) {
    this.#file = file
    this.#mostBytes = mostBytes
  }

  /** Polygons of [column, row] pairs as `[[[c,r],...],...]`, after a comma unless they are the first of a list. */
  async polygons(polygons: readonly Int32Array[], isFirst: boolean): Promise<void> {
    if (!isFirst) this.#byte(COMMA)
    this.#byte(OPEN)
    for (let p = 0; p < polygons.length; p++) {
      const points = polygons[p]!
      if (p > 0) this.#byte(COMMA)
      this.#byte(OPEN)
      for (let i = 0; i < points.length; i += 2) {
        if (this.#used + 2 * MARGIN > CHUNK_BYTES) await this.flush()
        if (i > 0) this.#byte(COMMA)
        this.#byte(OPEN)
        this.#int(points[i]!)
        this.#byte(COMMA)
        this.#int(points[i + 1]!)
        this.#byte(CLOSE)
      }
      this.#byte(CLOSE)
      if (this.#used + 2 * MARGIN > CHUNK_BYTES) await this.flush()
    }
    this.#byte(CLOSE)
    if (this.#used + 2 * MARGIN > CHUNK_BYTES) await this.flush()
  }

  open(): void {
    this.#byte(OPEN)
  }

  close(): void {
    this.#byte(CLOSE)
  }

  async flush(): Promise<void> {
    this.#written += this.#used
    if (this.#written > this.#mostBytes)
      throw new AppError('TOO_LARGE', `the polygons take more than ${this.#mostBytes} bytes (--max-volume-bytes)`, {
        hint: "ask for fewer points with 'more_points' or 'simplify'",
      })
    await this.#file.writeFile(this.#chunk.subarray(0, this.#used))
    this.#used = 0
  }

  #byte(byte: number): void {
    this.#chunk[this.#used++] = byte
  }

  #int(value: number): void {
    let digits = 1
    for (let rest = value; rest >= 10; rest = (rest / 10) | 0) digits++
    let at = this.#used + digits
    this.#used = at
    let rest = value
    do {
      const shorter = (rest / 10) | 0
      this.#chunk[--at] = ZERO + rest - shorter * 10
      rest = shorter
    } while (rest > 0)
  }
}
