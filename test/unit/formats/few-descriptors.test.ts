/** Images of more files than a process may open: each case in a process that may open 128. */
import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { tempFolder } from '../../helpers/volumes.js'
import { zipBytes } from '../../helpers/zip.js'

const FILES = 300
const slice = (z: number) => new Uint8Array(Int16Array.of(z, z, z, z).buffer)
const names = Array.from({ length: FILES }, (_, z) => `${z}.raw`)
const head = (lines: readonly string[]) => Buffer.from(`NRRD0004\n${lines.join('\n')}\n`)
const nrrd = head([
  'type: short',
  'dimension: 3',
  `sizes: 2 2 ${FILES}`,
  'endian: little',
  'encoding: raw',
  'data file: LIST',
  ...names,
])

test.skipIf(process.platform === 'win32').each([
  {
    name: 'a header that names a file for every slice',
    files: [...names.map((name, z) => ({ name, data: slice(z) })), { name: 'header.nhdr', data: nrrd }],
    first: 'header.nhdr',
    says: `2x2x${FILES} ${FILES - 1}`,
  },
  {
    name: 'a zip of hundreds of files that are no images',
    files: [{ name: 'upload', data: zipBytes(names.map((name) => ({ name, data: 'text' }))) }],
    first: 'upload',
    says: 'UNSUPPORTED_FORMAT',
  },
])('$name', async ({ files, first, says }) => {
  await using folder = await tempFolder()
  const at = join(folder.path, 'files')
  await mkdir(at)
  for (const { name, data } of files) await writeFile(join(at, name), data)
  const script = fileURLToPath(new URL('../../helpers/read-files.ts', import.meta.url))
  const words = ['-c', 'ulimit -n 128; exec "$@"', 'sh', process.execPath, '--import', 'tsx', script, at, first]
  const { stdout } = await promisify(execFile)('sh', words)
  expect(stdout.trim()).toBe(says)
})
