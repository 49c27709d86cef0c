import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { looksLikeZip, unzipTo } from '../../../src/util/unzip.js'
import { type ZipEntry, zipBytes } from '../../helpers/zip.js'

const LIMITS = { maxEntries: 10, maxBytes: 1_000_000 }

let root: string
let folder: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'unzip-'))
  folder = await mkdtemp(join(root, 'out-'))
})
afterEach(() => rm(root, { recursive: true, force: true }))

async function unpack(entries: readonly ZipEntry[], limits = LIMITS, signal?: AbortSignal) {
  const path = join(root, 'in.zip')
  await writeFile(path, zipBytes(entries))
  return unzipTo(path, folder, limits, signal)
}

describe('unzipTo', () => {
  it('gives the files in order with the names they had, under names of its own', async () => {
    const files = await unpack([
      { name: 'a/', data: '' },
      { name: 'a/one.txt', data: 'first' },
      { name: 'two.txt', data: 'second', store: true },
      { name: 'empty', data: '' },
    ])
    expect(files.map((f) => f.entryName)).toEqual(['a/one.txt', 'two.txt', 'empty'])
    expect(files.map((f) => f.bytes)).toEqual([5, 6, 0])
    expect(await Promise.all(files.map((f) => readFile(f.path, 'utf8')))).toEqual(['first', 'second', ''])
    expect((await readdir(folder)).every((name) => /^entry-\d+$/.test(name))).toBe(true)
  })

  it('streams an entry too large for one call', async () => {
    const data = Buffer.alloc(17 * 1024 * 1024, 7)
    const [file] = await unpack([{ name: 'big', data }], { maxEntries: 1, maxBytes: data.length })
    expect((await readFile(file!.path)).equals(data)).toBe(true)
  })

  it.each([
    { name: 'a stored entry', store: true, bytes: 1000 },
    { name: 'a deflated entry', store: false, bytes: 1000 },
    { name: 'an entry too large for one call', store: false, bytes: 17 * 1024 * 1024 },
  ])('refuses $name whose bytes do not have the checksum', async ({ store, bytes }) => {
    const entry = { name: 'damaged', data: Buffer.alloc(bytes, 7), store, sum: 0x12345678 }
    await expect(unpack([entry], { maxEntries: 1, maxBytes: bytes })).rejects.toMatchObject({
      code: 'UNREADABLE_IMAGE',
      message: expect.stringContaining('checksum'),
    })
  })

  it('leaves an archive inside the archive packed', async () => {
    const inner = zipBytes([{ name: 'x', data: 'y' }])
    const [file] = await unpack([{ name: 'inner.zip', data: inner }])
    expect((await readFile(file!.path)).equals(inner)).toBe(true)
  })

  it.each<{ name: string; entries: ZipEntry[]; limits?: typeof LIMITS; code: string; words: RegExp }>([
    { name: 'climbs out', entries: [{ name: '../x', data: 'y' }], code: 'UNREADABLE_IMAGE', words: /unsafe name/ },
    {
      name: 'climbs out late',
      entries: [{ name: 'a/../../x', data: 'y' }],
      code: 'UNREADABLE_IMAGE',
      words: /unsafe name/,
    },
    {
      name: 'climbs with backslashes',
      entries: [{ name: '..\\x', data: 'y' }],
      code: 'UNREADABLE_IMAGE',
      words: /unsafe|damaged/,
    },
    { name: 'is absolute', entries: [{ name: '/etc/x', data: 'y' }], code: 'UNREADABLE_IMAGE', words: /unsafe name/ },
    { name: 'names a drive', entries: [{ name: 'C:/x', data: 'y' }], code: 'UNREADABLE_IMAGE', words: /unsafe name/ },
    {
      name: 'is a symlink',
      entries: [{ name: 'l', data: '/etc/passwd', mode: 0o120777 }],
      code: 'UNREADABLE_IMAGE',
      words: /link/,
    },
    {
      name: 'is a symlink made on Darwin',
      entries: [{ name: 'l', data: '/etc/passwd', mode: 0o120777, maker: 19 }],
      code: 'UNREADABLE_IMAGE',
      words: /link/,
    },
    {
      name: 'is a device',
      entries: [{ name: 'd', data: '', mode: 0o020666 }],
      code: 'UNREADABLE_IMAGE',
      words: /device/,
    },
    {
      name: 'is encrypted',
      entries: [{ name: 'e', data: 'y', flags: 1 }],
      code: 'UNREADABLE_IMAGE',
      words: /encrypted/,
    },
    {
      name: 'declares more than the limit',
      entries: [{ name: 'b', data: Buffer.alloc(2_000_000) }],
      code: 'TOO_LARGE',
      words: /limit/,
    },
    {
      name: 'declares less than it holds',
      entries: [{ name: 'b', data: Buffer.alloc(500_000), declared: 10 }],
      code: 'UNREADABLE_IMAGE',
      words: /damaged/,
    },
    {
      name: 'declares more than it holds',
      entries: [{ name: 'b', data: 'abc', declared: 100 }],
      code: 'UNREADABLE_IMAGE',
      words: /damaged/,
    },
    {
      name: 'has too many entries',
      entries: Array.from({ length: 11 }, (_, i) => ({ name: `f${i}`, data: '' })),
      code: 'TOO_LARGE',
      words: /11 entries/,
    },
    {
      name: 'uses a method nobody knows',
      entries: [{ name: 'm', data: 'y', method: 99 }],
      code: 'UNREADABLE_IMAGE',
      words: /damaged/,
    },
  ])('refuses an entry that $name', async ({ entries, limits, code, words }) => {
    await expect(unpack(entries, limits)).rejects.toMatchObject({ code, message: expect.stringMatching(words) })
    expect((await readdir(root)).sort()).toEqual([expect.stringMatching(/^in\.zip$/), expect.stringMatching(/^out-/)])
  })

  it.each(['', 'PK', 'PK\x03\x04 and nothing more', 'x'.repeat(4000)])(
    'refuses what is no archive (%#)',
    async (text) => {
      const path = join(root, 'in.zip')
      await writeFile(path, text)
      await expect(unzipTo(path, folder, LIMITS)).rejects.toMatchObject({ code: 'UNREADABLE_IMAGE' })
    },
  )

  it.each([
    { name: 'more entries than it counts', count: 1, words: /lists more entries than it counts/ },
    { name: 'fewer entries than it counts', count: 3, words: /damaged/ },
  ])('refuses an archive that lists $name', async ({ count, words }) => {
    const path = join(root, 'in.zip')
    const entries = ['one', 'two'].map((name) => ({ name, data: name }))
    await writeFile(path, zipBytes(entries, count))
    await expect(unzipTo(path, folder, LIMITS)).rejects.toMatchObject({
      code: 'UNREADABLE_IMAGE',
      message: expect.stringMatching(words),
    })
    expect(await readdir(folder)).toEqual([])
  })

  it('never names an entry in a message', async () => {
    await expect(unpack([{ name: '../Smith^John', data: 'y' }])).rejects.toThrow(/^(?!.*Smith)/)
  })

  it('stops when asked', async () => {
    const stop = AbortSignal.abort(new Error('gone'))
    await expect(unpack([{ name: 'a', data: 'b' }], LIMITS, stop)).rejects.toThrow('gone')
  })
})

describe('looksLikeZip', () => {
  it.each([
    { bytes: [0x50, 0x4b, 3, 4], zip: true },
    { bytes: [0x50, 0x4b, 5, 6], zip: true },
    { bytes: [0x50, 0x4b, 1, 2], zip: false },
    { bytes: [], zip: false },
  ])('$bytes: $zip', ({ bytes, zip }) => expect(looksLikeZip(Uint8Array.from(bytes))).toBe(zip))
})
