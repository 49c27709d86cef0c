/** NRRD files written by ITK and by hand, against what SimpleITK reads (make_nrrd_golden.py). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Golden {
  readonly size: readonly number[]
  readonly channels: number
  readonly affine: readonly number[]
  readonly voxels: readonly number[]
}

const at = (name: string) => fileURLToPath(new URL(`nrrd/${name}`, import.meta.url))
const golden: Record<string, Golden> = JSON.parse(readFileSync(at('golden.json'), 'utf8'))

describe('NRRD', () => {
  it.each(Object.keys(golden))("%s gives SimpleITK's voxels and place", async (name) => {
    const want = golden[name]!
    const { volume, format, extension } = await readVolume([at(name)], roomyLimits)
    expect({ format, extension }).toEqual({ format: 'nrrd', extension: '.nrrd' })
    expect(volume.size).toEqual(want.size)
    expect(volume.channels).toBe(want.channels)
    expect(Array.from(volume.data)).toEqual(want.voxels)
    for (let i = 0; i < 16; i++) expect(volume.affine[i]).toBeCloseTo(want.affine[i]!, 10)
  })
})
