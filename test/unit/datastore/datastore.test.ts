/** The datastore on disk: versions, restarts, crashes, limits, and whose folder it is. */
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createDatastore, type DatastoreOptions } from '../../../src/datastore/create-datastore.js'
import type { Datastore } from '../../../src/datastore/datastore.js'
import { folderOf, LONGEST_ID } from '../../../src/datastore/names.js'
import { silentLog } from '../../../src/util/log.js'

let root: string
let now: number
let open: Datastore[]
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-datastore-'))
  now = 1_700_000_000_000
  open = []
})
afterEach(async () => {
  for (const store of open) await store.close()
  await rm(root, { recursive: true, force: true })
})

const path = () => join(root, 'store')

async function store(changes: Partial<DatastoreOptions> = {}): Promise<Datastore> {
  const made = await createDatastore({
    path: path(),
    clock: { now: () => now },
    log: silentLog,
    maxBytes: 1e9,
    maxImages: 100,
    expirySeconds: 0,
    ...changes,
  })
  open.push(made)
  return made
}

async function close(one: Datastore): Promise<void> {
  await one.close()
  open = open.filter((other) => other !== one)
}

/** A folder as a tool runner leaves it; `text` makes it another image. */
async function image(text: string) {
  const folder = await mkdtemp(join(root, 'incoming-'))
  await writeFile(join(folder, 'volume.nii'), text)
  await writeFile(join(folder, 'source.nii.gz'), text)
  const source = { file: 'source.nii.gz', contentType: 'application/octet-stream' }
  return { folder, sha256: `hash of ${text}`, extension: '.nii.gz' as const, source, image: { size: [1, 1, 1] } }
}

async function label(text: string) {
  const folder = await mkdtemp(join(root, 'incoming-'))
  await writeFile(join(folder, 'source.nrrd'), text)
  return { folder, file: 'source.nrrd', contentType: 'application/octet-stream', info: { said: text } }
}

const textOf = async (one: Datastore, id: string, tag = 'final') =>
  readFile((await one.labelFile(id, tag)).path, 'utf8')

test('keeps images and labels over a restart, in order of arrival', async () => {
  const first = await store()
  for (const id of ['b', 'a', '../../c d\u00e9']) {
    now += 1000
    await first.putImage(id, await image(id))
  }
  await first.putLabel('a', 'final', await label('one'))
  await close(first)
  const again = await store()
  expect(again.list().map(({ id }) => id)).toEqual(['b', 'a', '../../c d\u00e9'])
  expect(again.counts()).toEqual({ total: 3, completed: 1 })
  expect(await textOf(again, 'a')).toBe('one')
  const held = await again.hold('b')
  expect(await readFile(held.volumePath, 'utf8')).toBe('b')
  await held.release()
})

test('what is overwritten stays as a version; the same bytes again are none', async () => {
  const one = await store()
  await one.putImage('a', await image('old'))
  const before = one.get('a').image
  await one.putImage('a', await image('old'))
  expect(one.get('a').versions).toBe(1)
  await one.putImage('a', await image('new'))
  await one.putLabel('a', 'final', await label('first'))
  await one.putLabel('a', 'final', await label('second'))
  await one.putLabel('a', 'original', await label('model'))
  expect(one.get('a').versions).toBe(5)
  expect([await textOf(one, 'a'), await textOf(one, 'a', 'original')]).toEqual(['second', 'model'])
  const folder = join(path(), 'images', folderOf('a'))
  expect(await readFile(join(folder, before.id, 'volume.nii'), 'utf8')).toBe('old')
  expect((await readdir(folder)).length).toBe(6)
})

test('many writers of one id at once lose nothing', async () => {
  const one = await store()
  await one.putImage('a', await image('a'))
  await Promise.all(Array.from({ length: 20 }, async (_, i) => one.putLabel('a', 'final', await label(String(i)))))
  expect(one.get('a').versions).toBe(21)
  await close(one)
  expect((await store()).get('a').versions).toBe(21)
})

test('a write that was cut short leaves the old state, and nothing behind', async () => {
  const one = await store()
  await one.putImage('a', await image('a'))
  await close(one)
  const images = join(path(), 'images')
  const uuid = '01234567-89ab-4def-8123-456789abcdef'
  await mkdir(join(images, folderOf('a'), uuid))
  await mkdir(join(images, folderOf('a'), `${uuid}.part`))
  await writeFile(join(images, folderOf('a'), `index.json.${uuid}.tmp`), '{')
  await mkdir(join(images, folderOf('never'), uuid), { recursive: true })
  await writeFile(join(images, folderOf('a'), 'notes of a person.txt'), 'mine')
  const again = await store()
  expect(again.list().map(({ id }) => id)).toEqual(['a'])
  expect((await readdir(join(images, folderOf('a')))).sort()).toEqual(
    ['index.json', again.get('a').image.id, 'notes of a person.txt'].sort(),
  )
  expect(await readdir(join(images, folderOf('never')))).toEqual([])
})

test('an index that cannot be read costs its image alone, and stays', async () => {
  const one = await store()
  await one.putImage('a', await image('a'))
  await one.putImage('b', await image('b'))
  await close(one)
  const index = join(path(), 'images', folderOf('a'), 'index.json')
  await writeFile(index, '{"half":')
  const again = await store()
  expect(again.list().map(({ id }) => id)).toEqual(['b'])
  expect(await readFile(index, 'utf8')).toBe('{"half":')
})

describe('limits', () => {
  test('--datastore-max-images: one more is refused, another version is not', async () => {
    const one = await store({ maxImages: 1 })
    await one.putImage('a', await image('a'))
    await expect(one.putImage('b', await image('b'))).rejects.toMatchObject({
      code: 'TOO_LARGE',
      hint: expect.stringContaining('--datastore-max-images'),
    })
    await one.putImage('a', await image('again'))
    expect(one.list()).toHaveLength(1)
  })

  test('--datastore-max-bytes counts every version', async () => {
    const one = await store({ maxBytes: 50 })
    await one.putImage('a', await image('0123456789'))
    await one.putImage('a', await image('9876543210'))
    await expect(one.putLabel('a', 'final', await label('0123456789+'))).rejects.toMatchObject({
      code: 'TOO_LARGE',
      hint: expect.stringContaining('--datastore-max-bytes'),
    })
    await one.putLabel('a', 'final', await label('0123456789'))
    await close(one)
    const again = await store({ maxBytes: 50 })
    await expect(again.putLabel('a', 'final', await label('1'))).rejects.toMatchObject({ code: 'TOO_LARGE' })
  })

  test('--datastore-expiry: what nobody uses goes with its labels, what is held stays', async () => {
    const one = await store()
    for (const id of ['old', 'held', 'used']) await one.putImage(id, await image(id))
    await close(one)
    const past = (now - 100_000) / 1000
    for (const id of ['old', 'used']) await utimes(join(path(), 'images', folderOf(id), 'index.json'), past, past)
    const used = await store()
    const held = await used.hold('used')
    await held.release()
    await close(used)
    const again = await store({ expirySeconds: 60 })
    expect(
      again
        .list()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(['held', 'used'])
    expect(await readdir(join(path(), 'images'))).toHaveLength(2)
  })

  test.each([
    { what: 'nothing', id: '' },
    { what: 'blanks', id: '  ' },
    { what: 'a control character', id: 'a\u0000b' },
    { what: 'half a character', id: 'a\ud800' },
    { what: 'too much', id: 'x'.repeat(LONGEST_ID + 1) },
  ])('an id of $what is refused', async ({ id }) => {
    const one = await store()
    await expect(one.putImage(id, await image('a'))).rejects.toMatchObject({ code: 'BAD_PARAMS' })
    expect(await readdir(join(path(), 'images'))).toEqual([])
  })

  test.each(['', '..', 'a/b', '__proto__', 'x'.repeat(65)])('the tag %j is refused', async (tag) => {
    const one = await store()
    await one.putImage('a', await image('a'))
    await expect(async () => one.putLabel('a', tag, await label('l'))).rejects.toMatchObject({ code: 'BAD_NAME' })
  })
})

describe('whose folder it is', () => {
  test('a folder of somebody else is refused and left as it is', async () => {
    await mkdir(path())
    await writeFile(join(path(), 'thesis.txt'), 'mine')
    await expect(store()).rejects.toThrow(/holds other files/)
    expect(await readdir(path())).toEqual(['thesis.txt'])
  })

  test('one of a newer Aidant is refused', async () => {
    await mkdir(path())
    await writeFile(join(path(), 'aidant-datastore.json'), '{"format": 2}')
    await expect(store()).rejects.toThrow(/newer/)
  })

  test('a second server is refused while the first has it', async () => {
    const one = await store()
    await expect(store()).rejects.toThrow(/another server/)
    await close(one)
    await store()
  })
})
