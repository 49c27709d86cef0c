/** Real and made-up odd files of ../shared/data/robust, against what nibabel reads (make_nifti_golden.py). */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ErrorCode } from '../../src/errors.js'
import { readVolume } from '../../src/formats/read-volume.js'
import type { VoxelArray } from '../../src/volume/volume.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Golden {
  readonly shape: readonly number[]
  readonly affine: readonly number[]
  readonly min: number
  readonly max: number
  readonly sha256: string
}

const golden: Record<string, Golden> = JSON.parse(readFileSync(new URL('nifti_golden.json', import.meta.url), 'utf8'))

/** Not images of real numbers on a grid: refused, each with words that say why. */
const refused: Record<string, readonly [ErrorCode, RegExp]> = {
  'nib_analyze.hdr': ['UNSUPPORTED_FORMAT', /ANALYZE/],
  'nib_nifti1.hdr': ['UNREADABLE_IMAGE', /voxels \(\.img\) are missing/],
  'nib_nifti2.hdr': ['UNREADABLE_IMAGE', /voxels \(\.img\) are missing/],
  'nib_row_major.dconn.nii': ['UNSUPPORTED_FORMAT', /CIFTI/],
  'nib_test.mgz': ['UNSUPPORTED_FORMAT', /MGH/],
  'nrjs_not-nifti.nii': ['UNSUPPORTED_FORMAT', /not an image/],
  'synth/analyze75.hdr': ['UNSUPPORTED_FORMAT', /ANALYZE/],
  'synth/analyze75.img': ['UNSUPPORTED_FORMAT', /not an image/],
  'synth/bad_magic.nii': ['UNSUPPORTED_FORMAT', /magic/],
  'synth/complex64.nii.gz': ['UNSUPPORTED_FORMAT', /complex/],
  'synth/dim0_is_9.nii': ['UNREADABLE_IMAGE', /dim\[0\] is 9/],
  'synth/dim_huge_claim.nii': ['TOO_LARGE', /32767x32767x32767/],
  'synth/dim_negative.nii': ['UNREADABLE_IMAGE', /dim\[2\] is -5/],
  'synth/dim_zero.nii': ['UNREADABLE_IMAGE', /dim\[1\] is 0/],
  'synth/empty.nii.gz': ['UNREADABLE_IMAGE', /empty/],
  'synth/gz_bomb_256MB.nii.gz': ['UNREADABLE_IMAGE', /1000000000 bytes of voxels expected/],
  'synth/gz_corrupt.nii.gz': ['UNREADABLE_IMAGE', /damaged/],
  'synth/gz_truncated.nii.gz': ['UNREADABLE_IMAGE', /15360 bytes of voxels expected, 7260/],
  'synth/header_only.nii': ['UNREADABLE_IMAGE', /15360 bytes of voxels expected, 0/],
  'synth/html_error_page.nii.gz': ['UNSUPPORTED_FORMAT', /web page/],
  'synth/short_header_100bytes.nii': ['UNREADABLE_IMAGE', /348 bytes expected, 100/],
  'synth/truncated_data.nii': ['UNREADABLE_IMAGE', /15360 bytes of voxels expected, 7504/],
  'synth/unknown_datatype.nii': ['UNREADABLE_IMAGE', /datatype 999/],
}

/** nibabel hands out an affine of zeros here; Aidant falls back on the qform. */
const otherAffine: Record<string, readonly number[]> = {
  'synth/sform_singular.nii.gz': [1.5, 0, 0, -10, 0, 2, 0, 5, 0, 0, 2.5, -20, 0, 0, 0, 1],
}

const folder = join(sharedData ?? '', 'robust')

/** The halves of a pair are read together, whichever of the two is named. */
function pathsOf(name: string): string[] {
  const other = name.includes('.hdr') ? name.replace('.hdr', '.img') : name.replace('.img', '.hdr')
  return golden[name] && other !== name ? [join(folder, name), join(folder, other)] : [join(folder, name)]
}

function sha256(data: VoxelArray): string {
  const numbers = Float64Array.from(data as Float64Array)
  return createHash('sha256').update(new Uint8Array(numbers.buffer)).digest('hex')
}

describe.skipIf(!sharedData)('odd NIfTI files (needs ../shared/data)', () => {
  it('has an expectation for every file of the folder', () => {
    const files = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && !entry.name.endsWith('.tsv'))
      .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    expect([...Object.keys(golden), ...Object.keys(refused)].sort()).toEqual(files.sort())
  })

  it.each(Object.keys(golden))("%s gives nibabel's voxels and affine", async (name) => {
    const want = golden[name]!
    const { volume } = await readVolume(pathsOf(name), roomyLimits)
    const [nx, ny = 1, nz = 1, ...rest] = want.shape
    expect(volume.size).toEqual([nx, ny, nz])
    expect(volume.channels).toBe(rest.reduce((product, n) => product * n, 1))
    expect(sha256(volume.data)).toBe(want.sha256)
    const affine = otherAffine[name] ?? want.affine
    for (let i = 0; i < 16; i++) expect(volume.affine[i]).toBeCloseTo(affine[i]!, 12)
  })

  it.each(Object.keys(refused))('%s is refused with words', async (name) => {
    const [code, words] = refused[name]!
    await expect(readVolume(pathsOf(name), roomyLimits)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(words),
    })
  })
})
