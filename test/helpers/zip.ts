/** Makes zip archives byte by byte, honest ones and dishonest ones: a writer library would refuse to lie. */
import { deflateRawSync } from 'node:zlib'

export interface ZipEntry {
  readonly name: string
  readonly data: string | Uint8Array
  /** Kept as it is instead of deflated. */
  readonly store?: boolean
  /** Unix mode with the file type, 0o120777 for a symlink. */
  readonly mode?: number
  readonly flags?: number
  readonly method?: number
  /** The unpacked size to claim. */
  readonly declared?: number
  /** The checksum to claim. */
  readonly sum?: number
  /** The system that made it, which says what its mode means: 3 for Unix, 19 for Darwin. */
  readonly maker?: number
}

/** `count`: of entries, to claim. */
export function zipBytes(entries: readonly ZipEntry[], count = entries.length): Buffer {
  const parts: Buffer[] = []
  const directory: Buffer[] = []
  let offset = 0
  for (const { name, data, store, mode = 0o100644, flags = 0, method, declared, sum, maker = 3 } of entries) {
    const raw = Buffer.from(data as Uint8Array)
    const packed = store ? raw : deflateRawSync(raw)
    const fields = Buffer.alloc(26)
    fields.writeUInt16LE(20, 0)
    fields.writeUInt16LE(flags, 2)
    fields.writeUInt16LE(method ?? (store ? 0 : 8), 4)
    fields.writeUInt32LE(sum ?? crc32(raw), 10)
    fields.writeUInt32LE(packed.length, 14)
    fields.writeUInt32LE(declared ?? raw.length, 18)
    fields.writeUInt16LE(Buffer.byteLength(name), 22)
    const local = Buffer.concat([Buffer.from('PK\x03\x04', 'latin1'), fields, Buffer.from(name), packed])
    const tail = Buffer.alloc(14)
    tail.writeUInt32LE((mode << 16) >>> 0, 6)
    tail.writeUInt32LE(offset, 10)
    const madeBy = Buffer.from([20, maker])
    directory.push(Buffer.concat([Buffer.from('PK\x01\x02', 'latin1'), madeBy, fields, tail, Buffer.from(name)]))
    parts.push(local)
    offset += local.length
  }
  const central = Buffer.concat(directory)
  const end = Buffer.alloc(22)
  end.write('PK\x05\x06', 'latin1')
  end.writeUInt16LE(count, 8)
  end.writeUInt16LE(count, 10)
  end.writeUInt32LE(central.length, 12)
  end.writeUInt32LE(offset, 16)
  return Buffer.concat([...parts, central, end])
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0)
  return crc
})

/** zlib.crc32 is newer than the oldest Node the project runs on. */
function crc32(bytes: Uint8Array): number {
  let crc = ~0
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 255]!
  return ~crc >>> 0
}
