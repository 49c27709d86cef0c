/** Reads the files it is given as one image and says its size, or why not; a process of its own, with limits of its own. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { AppError } from '../../src/errors.js'
import { readVolume } from '../../src/formats/read-volume.js'

const [folder = '', first = ''] = process.argv.slice(2)
const paths = readdirSync(folder)
  .toSorted((a, b) => Number(b === first) - Number(a === first) || Number.parseInt(a, 10) - Number.parseInt(b, 10))
  .map((name) => join(folder, name))
const told = await readVolume(paths, { maxVolumeBytes: 2 ** 28, maxVoxels: 2 ** 28 }).then(
  ({ volume }) => `${volume.size.join('x')} ${volume.data.at(-1)}`,
  (error: unknown) => (error instanceof AppError ? error.code : String(error)),
)
console.log(told)
