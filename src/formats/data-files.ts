/** Headers whose voxels are in other files (.mhd, .nhdr): which files those are. */
import { AppError } from '../errors.js'

/** Their names in order, as the header has them: for finding them in an archive, never paths on this machine. */
export type DataFiles = readonly string[]

/** More files than slices of any scan; a bound for what a pattern may ask for. */
const MOST_FILES = 100_000

/**
 * The files that `value` names: one name; `LIST`, whose names are the lines of `rest`; or a pattern for printf with the
 * first and last number and the step, `slice.%03d.raw 1 60 1`. MetaIO and teem write these alike.
 */
export function dataFilesOf(value: string, rest: string): DataFiles {
  if (/^LIST\b/i.test(value))
    return rest
      .split(/\r?\n/)
      .map((line) => line.trim())
      .filter((line) => line !== '')
  const pattern = /^(.*%(0?)(\d*)d.*?)\s+(-?\d+)\s+(-?\d+)(?:\s+(-?\d+))?(?:\s+\d+)?$/.exec(value)
  if (!pattern) return [value]
  const [, name, zero, width] = pattern
  const [first, last, step] = [Number(pattern[4]), Number(pattern[5]), Number(pattern[6] ?? 1)]
  const count = Math.floor((last - first) / step) + 1
  if (!(count >= 1 && count <= MOST_FILES))
    throw new AppError('UNREADABLE_IMAGE', `the header names ${first} to ${last} by ${step} as its data files`)
  return Array.from({ length: count }, (_, i) => {
    const digits = String(first + i * step).padStart(Number(width || 0), zero === '0' ? '0' : ' ')
    return name!.replace(/%0?\d*d/, digits)
  })
}

/** Throws MISSING_IMAGE when the files sent beside a header are not as many as it names. */
export function checkDataFiles(named: DataFiles, sent: readonly string[]): void {
  if (named.length === sent.length) return
  const many = (n: number) => (n === 1 ? '1 file' : `${n} files`)
  throw new AppError(
    'MISSING_IMAGE',
    `the header says that its voxels are in ${many(named.length)} beside it; ${sent.length === 0 ? 'none was' : `${sent.length} were`} sent`,
    { hint: 'Send the header and its data together, or in a zip, or save the image as one file (.mha, .nrrd).' },
  )
}
