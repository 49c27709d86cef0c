/** TIFF and BMP of every kind against Pillow and SimpleITK (make_tiff_bmp_golden.py). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readPictureLabels } from '../../src/formats/picture.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { roomyLimits } from '../helpers/volumes.js'

interface Golden {
  readonly size: readonly number[]
  readonly channels: number
  readonly samples: readonly number[]
}

const at = (name: string) => fileURLToPath(new URL(`tiff_bmp/${name}`, import.meta.url))
const golden: Record<string, Golden> = JSON.parse(readFileSync(at('golden.json'), 'utf8'))

describe('TIFF and BMP', () => {
  it.each(Object.keys(golden))('%s gives its samples', async (name) => {
    const { size, channels, samples } = golden[name]!
    const { volume, format, extension } = await readVolume([at(name)], roomyLimits)
    expect({ format, extension }).toEqual({
      format: name.endsWith('.tif') ? 'tiff' : 'bmp',
      extension: size[2] === 1 ? '.png' : '.nii.gz',
    })
    expect({ size: volume.size, channels: volume.channels }).toEqual({ size, channels })
    expect(Array.from(volume.data)).toEqual(samples)
  })

  it('pages of one size are slices, and of several sizes the first one counts; a note says so', async () => {
    expect((await readVolume([at('stack16.tif')], roomyLimits)).notes).toEqual([
      'the 3 pages of the TIFF became slices; it says nothing of their distance: 1 mm was used',
    ])
    expect((await readVolume([at('odd_pages.tif')], roomyLimits)).notes).toEqual([
      "the TIFF's 2 pages differ in size or kind; the first was used",
    ])
  })

  it.each(['palette.tif', 'palette8.bmp', 'palette4.bmp', 'os2.bmp'])(
    '%s says the index of each pixel',
    async (name) => {
      const { index } = await readPictureLabels(at(name), name.endsWith('.tif') ? 'tiff' : 'bmp')
      const palette = [0, 0, 0, 200, 10, 20, 30, 220, 40, 250, 240, 60]
      const planes = [0, 1, 2].flatMap((c) => Array.from(index!.data, (i) => palette[3 * i + c]))
      expect(planes).toEqual(golden[name]!.samples)
      expect(index!.firstIsBlack).toBe(true)
    },
  )

  it.each([
    { name: 'rgba8.tif', has: true },
    { name: 'rgba32_v5.bmp', has: true },
    { name: 'rgb8.tif', has: false },
    { name: 'rgb32.bmp', has: false },
  ])('$name: alpha $has', async ({ name, has }) => {
    const { alpha } = await readPictureLabels(at(name), name.endsWith('.tif') ? 'tiff' : 'bmp')
    expect(alpha && Array.from(alpha)).toEqual(has ? golden['grey8.bmp']!.samples : undefined)
  })
})
