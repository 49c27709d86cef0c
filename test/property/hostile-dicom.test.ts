/** Damaged and crafted DICOM and zip files: an answer in words or a volume, never a crash, never memory without end. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deflateRawSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AppError } from '../../src/errors.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'
import { mutate, random } from '../helpers/mutate.js'
import { zipBytes } from '../helpers/zip.js'

const LIMITS = { maxVolumeBytes: 64 * 1024 * 1024, maxVoxels: 2 ** 24 }
const CASES = 300
/** Far above what a 64 MiB limit explains, far below what a lying header asks for. */
const MEMORY_BYTES = 700 * 1024 * 1024

let root: string
let seeds: { name: string; files: Buffer[] }[]
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'hostile-'))
  const [encodings, geometry] = [await dicomFixtures('encodings', root), await dicomFixtures('geometry', root)]
  const load = async (from: typeof encodings, name: string) => ({
    name,
    files: await Promise.all(from.named(`${name}/`).map((path) => readFile(path))),
  })
  seeds = await Promise.all([
    ...[
      'explicit',
      'implicit',
      'big-endian',
      'deflated',
      'rle',
      'jpeg-lossless',
      'jpeg-ls',
      'jpeg-2000',
      'jpeg-baseline',
    ].map((name) => load(encodings, name)),
    ...['enhanced-multi-frame', 'enhanced-rle', 'enhanced-jpeg-2000', 'rgb-rle', 'palette'].map((name) =>
      load(geometry, name),
    ),
  ])
})
afterAll(() => rm(root, { recursive: true, force: true }))

/** Reads, and says how it ended: 'volume' or a 4xx code. Anything else fails the test. */
async function outcome(paths: readonly string[]): Promise<string> {
  try {
    const { volume } = await readVolume(paths, LIMITS)
    expect(volume.data.length).toBeLessThanOrEqual(LIMITS.maxVoxels)
    return 'volume'
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    expect(error.statusCode).toBeGreaterThanOrEqual(400)
    expect(error.statusCode).toBeLessThan(500)
    expect(error.message).not.toContain(root)
    return error.code
  }
}

it(`${CASES} mutated files end as volumes or in words, within bounded memory`, async () => {
  const before = process.memoryUsage().rss
  let highest = 0
  const seen: Record<string, number> = {}
  for (let n = 0; n < CASES; n++) {
    const next = random(n)
    const { files } = seeds[n % seeds.length]!
    const folder = join(root, `case-${n}`)
    await mkdir(folder)
    const victim = Math.floor(next() * files.length)
    const changed = files.map((bytes, i) => (i === victim ? mutate(bytes, next) : bytes))
    let paths: string[]
    if (n % 3 === 0) {
      const zip = zipBytes(changed.map((data, i) => ({ name: `d/${i}.dcm`, data })))
      paths = [join(folder, 'upload')]
      await writeFile(paths[0]!, n % 2 ? mutate(zip, next) : zip)
    } else {
      paths = changed.map((_, i) => join(folder, String(i)))
      await Promise.all(paths.map((path, i) => writeFile(path, changed[i]!)))
    }
    const end = await outcome(paths).catch((error: unknown) => {
      throw new Error(`case ${n}: ${error instanceof Error ? error.stack : error}`)
    })
    seen[end] = (seen[end] ?? 0) + 1
    highest = Math.max(highest, process.memoryUsage().rss)
    await rm(folder, { recursive: true })
  }
  expect(highest - before).toBeLessThan(MEMORY_BYTES)
  // The mutations reach both ends: some harmless, most noticed.
  expect(seen.volume).toBeGreaterThan(10)
  expect(seen.UNREADABLE_IMAGE).toBeGreaterThan(50)
}, 120_000)

const tag = (group: number, element: number, vr: string, value: Buffer): Buffer => {
  const long = ['SQ', 'OB', 'OW', 'UN', 'UT'].includes(vr)
  const head = Buffer.alloc(long ? 12 : 8)
  head.writeUInt16LE(group, 0)
  head.writeUInt16LE(element, 2)
  head.write(vr, 4, 'latin1')
  if (long) head.writeUInt32LE(value.length, 8)
  else head.writeUInt16LE(value.length, 6)
  return Buffer.concat([head, value])
}
const us = (value: number) => Buffer.from([value & 255, value >> 8])
const text = (value: string) => Buffer.from(value.length % 2 ? `${value} ` : value, 'latin1')

function part10(syntax: string, ...elements: Buffer[]): Buffer {
  const meta = tag(2, 0x10, 'UI', Buffer.from(syntax.length % 2 ? `${syntax}\0` : syntax, 'latin1'))
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM'), meta, ...elements])
}

const EXPLICIT = '1.2.840.10008.1.2.1'
const image = (rows: number, columns: number, frames: string, bits = 16) => [
  tag(0x28, 2, 'US', us(1)),
  tag(0x28, 4, 'CS', text('MONOCHROME2')),
  tag(0x28, 8, 'IS', text(frames)),
  tag(0x28, 0x10, 'US', us(rows)),
  tag(0x28, 0x11, 'US', us(columns)),
  tag(0x28, 0x100, 'US', us(bits)),
  tag(0x28, 0x101, 'US', us(bits)),
  tag(0x28, 0x102, 'US', us(bits - 1)),
  tag(0x28, 0x103, 'US', us(0)),
]
const undefinedPixels = Buffer.from([0xe0, 0x7f, 0x10, 0, 0x4f, 0x42, 0, 0, 0xff, 0xff, 0xff, 0xff])
const item = (value: Buffer) => {
  const head = Buffer.from([0xfe, 0xff, 0, 0xe0, 0, 0, 0, 0])
  head.writeUInt32LE(value.length, 4)
  return Buffer.concat([head, value])
}
const sequenceEnd = Buffer.from([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0])
const sequenceStart = Buffer.from([
  0x08, 0, 0x40, 0x11, 0x53, 0x51, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0xff,
])
/** SOC and SIZ of a JPEG 2000 codestream of this size. */
const j2kHead = (width: number, height: number) => {
  const bytes = Buffer.alloc(60)
  bytes.write('ff4fff510029', 'hex')
  bytes.writeUInt32BE(width, 8)
  bytes.writeUInt32BE(height, 12)
  bytes.writeUInt16BE(1, 40)
  return bytes
}
const J2K = '1.2.840.10008.1.2.4.90'
const RLE = '1.2.840.10008.1.2.5'

describe('crafted DICOM', () => {
  it.each<{ name: string; bytes: () => Buffer; code: string }>([
    {
      name: 'only the prefix',
      bytes: () => Buffer.concat([Buffer.alloc(128), Buffer.from('DICM')]),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'sequences 40000 deep',
      bytes: () => part10(EXPLICIT, ...Array.from({ length: 40_000 }, () => sequenceStart), ...image(2, 2, '1')),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'a million empty elements',
      bytes: () =>
        part10(EXPLICIT, Buffer.concat(Array.from({ length: 1_000_000 }, () => tag(9, 1, 'LO', Buffer.alloc(0))))),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'no rows',
      bytes: () => part10(EXPLICIT, ...image(0, 2, '1'), tag(0x7fe0, 0x10, 'OW', Buffer.alloc(8))),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'four billion pixels',
      bytes: () => part10(EXPLICIT, ...image(65535, 65535, '1'), tag(0x7fe0, 0x10, 'OW', Buffer.alloc(8))),
      code: 'TOO_LARGE',
    },
    {
      name: 'more pixels than bytes',
      bytes: () => part10(EXPLICIT, ...image(4000, 4000, '1'), tag(0x7fe0, 0x10, 'OW', Buffer.alloc(8))),
      code: 'UNREADABLE_IMAGE',
    },
    ...['0', '-1', '1e9', '99999999', 'NaN', '2147483648'].map((frames) => ({
      name: `${frames} frames`,
      bytes: () => part10(EXPLICIT, ...image(2, 2, frames), tag(0x7fe0, 0x10, 'OW', Buffer.alloc(8))),
      code: frames === '0' ? 'volume' : 'UNREADABLE_IMAGE',
    })),
    {
      name: 'JPEG 2000 pixels of another size',
      bytes: () =>
        part10(
          J2K,
          ...image(8, 8, '1'),
          undefinedPixels,
          item(Buffer.alloc(0)),
          item(j2kHead(60000, 60000)),
          sequenceEnd,
        ),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'JPEG 2000 pixels that are only a head',
      bytes: () =>
        part10(J2K, ...image(8, 8, '1'), undefinedPixels, item(Buffer.alloc(0)), item(j2kHead(8, 8)), sequenceEnd),
      code: 'UNREADABLE_IMAGE',
    },
    ...(['jpeg-lossless', 'jpeg-2000'] as const).map((kind) => ({
      name: `${kind} pixels whose second half is lost`,
      bytes: () => {
        const whole = Buffer.from(seeds.find(({ name }) => name === kind)!.files[0]!)
        const start = whole.indexOf('e07f1000', 0, 'hex')
        return whole.fill(0, start + Math.floor((whole.length - start) / 2), whole.length - 8)
      },
      code: 'UNREADABLE_IMAGE',
    })),
    {
      name: 'a small file that announces a large RLE image',
      bytes: () =>
        part10(
          RLE,
          ...image(4000, 4000, '1'),
          undefinedPixels,
          item(Buffer.alloc(0)),
          item(Buffer.alloc(66)),
          sequenceEnd,
        ),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'compressed frames without fragments',
      bytes: () => part10(RLE, ...image(2, 2, '3'), undefinedPixels, item(Buffer.alloc(0)), sequenceEnd),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'a compressed frame without a fragment',
      bytes: () => part10(RLE, ...image(2, 2, '1'), undefinedPixels, item(Buffer.alloc(0)), sequenceEnd),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'a fragment beyond the end',
      bytes: () =>
        part10(
          RLE,
          ...image(2, 2, '1'),
          undefinedPixels,
          item(Buffer.alloc(0)),
          Buffer.from([0xfe, 0xff, 0, 0xe0, 0xff, 0xff, 0xff, 0x7f]),
        ),
      code: 'UNREADABLE_IMAGE',
    },
    {
      name: 'a deflated bomb',
      bytes: () => part10('1.2.840.10008.1.2.1.99', deflateRawSync(Buffer.alloc(100 * 1024 * 1024))),
      code: 'TOO_LARGE',
    },
    {
      name: '64 bits a pixel',
      bytes: () => part10(EXPLICIT, ...image(2, 2, '1', 64), tag(0x7fe0, 0x10, 'OW', Buffer.alloc(32))),
      code: 'UNSUPPORTED_FORMAT',
    },
  ])('$name: $code', async ({ name, bytes, code }) => {
    const path = join(root, name.replaceAll(' ', '-'))
    await writeFile(path, bytes())
    const before = process.memoryUsage().rss
    expect(await outcome([path])).toBe(code)
    expect(process.memoryUsage().rss - before).toBeLessThan(MEMORY_BYTES)
  })
})

it('leaves nothing outside its own folder', async () => {
  const folder = join(root, 'inside', 'deeper')
  await mkdir(folder, { recursive: true })
  const path = join(folder, 'upload')
  await writeFile(path, zipBytes([{ name: '../../escaped', data: 'x' }]))
  expect(await outcome([path])).toBe('UNREADABLE_IMAGE')
  expect(await readdir(join(root, 'inside'))).toEqual(['deeper'])
})
