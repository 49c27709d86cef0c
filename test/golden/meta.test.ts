/** MetaImage, and NRRD with text or detached voxels, against what SimpleITK reads (make_meta_golden.py). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Golden {
  readonly files: readonly string[]
  readonly size: readonly number[]
  readonly channels: number
  readonly affine: readonly number[]
  readonly voxels: readonly number[]
}

const at = (name: string) => fileURLToPath(new URL(`meta/${name}`, import.meta.url))
const golden: Record<string, Golden> = JSON.parse(readFileSync(at('golden.json'), 'utf8'))

describe('MetaImage, and NRRD beside its data', () => {
  it.each(Object.keys(golden))("%s gives SimpleITK's voxels and place", async (name) => {
    const want = golden[name]!
    const { volume, format, extension } = await readVolume(want.files.map(at), roomyLimits)
    expect({ format, extension }).toEqual(
      /\.m/.test(name) ? { format: 'metaimage', extension: '.mha' } : { format: 'nrrd', extension: '.nrrd' },
    )
    expect({ size: volume.size, channels: volume.channels }).toEqual({ size: want.size, channels: want.channels })
    expect(Array.from(volume.data)).toEqual(want.voxels)
    for (let i = 0; i < 16; i++) expect(volume.affine[i]).toBeCloseTo(want.affine[i]!, 10)
  })

  it.each(['pair.mhd', 'beside.nhdr'])('%s may come after its data', async (name) => {
    const { volume } = await readVolume(golden[name]!.files.map(at).toReversed(), roomyLimits)
    expect(Array.from(volume.data)).toEqual(golden[name]!.voxels)
  })

  it.each([
    { files: ['pair.mhd'], says: 'the header says that its voxels are in 1 file beside it; none was sent' },
    {
      files: ['list.mhd', 'slice01.raw'],
      says: 'the header says that its voxels are in 2 files beside it; 1 were sent',
    },
    { files: ['list.nhdr'], says: 'the header says that its voxels are in 2 files beside it; none was sent' },
  ])('$files: $says', async ({ files, says }) => {
    await expect(readVolume(files.map(at), roomyLimits)).rejects.toMatchObject({ code: 'MISSING_IMAGE', message: says })
  })
})
