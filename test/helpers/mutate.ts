/** Damage to files, repeatable by number. */

/** Small and repeatable: a failing case can be run again by its number. */
export function random(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

export function mutate(bytes: Buffer, next: () => number): Buffer {
  const at = (length: number) => Math.floor(next() * length)
  const copy = Buffer.from(bytes)
  switch (at(6)) {
    case 0: // cut short
      return copy.subarray(0, at(copy.length))
    case 1: // some bytes changed, mostly in the header
      for (let n = 1 + at(8); n > 0; n--) copy[at(Math.min(copy.length, next() < 0.7 ? 1600 : copy.length))] = at(256)
      return copy
    case 2: // a length made huge
      copy.writeUInt32LE(
        next() < 0.5 ? 0xffffffff : 0x7fffffff,
        132 + at(Math.max(1, Math.min(copy.length, 1600) - 140)),
      )
      return copy
    case 3: // a piece taken out
      return Buffer.concat([copy.subarray(0, at(copy.length)), copy.subarray(at(copy.length))])
    case 4: {
      // a piece repeated
      const start = at(copy.length)
      return Buffer.concat([copy.subarray(0, start), copy.subarray(at(start + 1), start), copy.subarray(start)])
    }
    default: {
      // noise in the pixels
      for (let n = 1 + at(40); n > 0; n--) copy[copy.length - 1 - at(Math.min(copy.length, 600))] = at(256)
      return copy
    }
  }
}
