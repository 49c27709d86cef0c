/** Where label files keep their labels: scaled numbers, palettes, transparency. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { readMask } from '../../../src/formats/read-mask.js'
import { niftiBytes } from '../../helpers/nifti-bytes.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

async function maskOf(bytes: Uint8Array, label?: number): Promise<number[]> {
  await using folder = await tempFolder()
  const path = join(folder.path, 'mask')
  await writeFile(path, bytes)
  const { volume } = await readMask({ paths: [path] }, roomyLimits, label)
  expect(volume.channels).toBe(1)
  return Array.from(volume.data, (value) => (value === 0 ? 0 : 1))
}

describe('labels saved as scaled integers', () => {
  // As nibabel saves 0, 1 and 2: 65535 steps from 0 to 2 with the middle of them at -1.5e-5 off 1.
  const scaled = niftiBytes({
    dim: [2, 4, 1],
    voxels: [-32768, 0, 32767, 0],
    slope: 2 / 65535,
    inter: (2 / 65535) * 32768,
  })
  it.each([
    { label: 1, want: [0, 1, 0, 1] },
    { label: 2, want: [0, 0, 1, 0] },
    { label: undefined, want: [0, 1, 1, 1] },
  ])('$label', async ({ label, want }) => {
    expect(await maskOf(scaled, label)).toEqual(want)
  })

  it('a background a hair off zero is background', async () => {
    expect(await maskOf(niftiBytes({ datatype: 16, voxels: [-4e-5, 3e-5, 1.00002, 0.5] }))).toEqual([0, 0, 1, 1])
  })

  it('8 bits over many labels read 1 as 1.18 and 2 as 1.96: a label is where voxels round to it', async () => {
    const coarse = niftiBytes({ datatype: 16, dim: [2, 4, 1], voxels: [0, 1.1764706, 1.9607844, 100] })
    expect(await maskOf(coarse, 1)).toEqual([0, 1, 0, 0])
    expect(await maskOf(coarse, 2)).toEqual([0, 0, 1, 0])
    await expect(maskOf(coarse, 3)).rejects.toMatchObject({ code: 'BAD_PARAMS' })
  })

  it('what is no label is named as it is', async () => {
    await expect(maskOf(niftiBytes({ datatype: 16, voxels: [0, 0.25, 1.00002, 3] }), 2)).rejects.toMatchObject({
      code: 'BAD_PARAMS',
      message: "'label' 2 is nowhere in the mask, which has 0.25, 1, 3",
    })
  })
})

describe('a palette PNG', () => {
  const golden = (name: string) => readFile(fileURLToPath(new URL(`../../golden/masks/${name}`, import.meta.url)))
  it.each([
    ...['bits8.png', 'bits4.png', 'bits2.png', 'interlaced.png'].flatMap((name) => [
      { name, label: 1, want: [0, 1, 0, 0, 1, 0, 0, 0] },
      { name, label: 3, want: [0, 0, 0, 1, 0, 0, 0, 1] },
      // Index 2 is as black as the background.
      { name, label: undefined, want: [0, 1, 1, 1, 1, 0, 0, 1] },
    ]),
    { name: 'bits1.png', label: 1, want: [0, 1, 0, 1, 1, 0, 0, 1] },
    // A drawing program's: white first, so the colours say what is background.
    { name: 'white_first.png', label: undefined, want: [1, 0, 1, 1, 0, 1, 1, 1] },
    { name: 'white_first.png', label: 1, want: [0, 1, 0, 0, 1, 0, 0, 0] },
    { name: 'white_first.png', label: 255, want: [1, 0, 1, 1, 0, 1, 1, 1] },
  ])('$name: $label', async ({ name, label, want }) => {
    expect(await maskOf(await golden(name), label)).toEqual(want)
  })

  it('names its indices when a label is nowhere', async () => {
    await expect(maskOf(await golden('bits4.png'), 7)).rejects.toMatchObject({
      message: "'label' 7 is nowhere in the mask, which has 1, 2, 3",
    })
  })
})

describe('an RGBA picture', () => {
  const rgba = (pixels: readonly (readonly number[])[]) =>
    sharp(Uint8Array.from(pixels.flat()), { raw: { width: pixels.length, height: 1, channels: 4 } })
      .png()
      .toBuffer()
  it.each([
    {
      name: 'that keeps labels in alpha',
      pixels: [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 0, 2],
      ],
      masks: { any: [0, 1, 1], 1: [0, 1, 0], 2: [0, 0, 1] },
    },
    {
      name: 'drawn in one colour on nothing',
      pixels: [
        [255, 0, 0, 0],
        [255, 0, 0, 255],
        [255, 0, 0, 128],
      ],
      masks: { any: [0, 1, 1], 128: [0, 0, 1] },
    },
    {
      name: 'drawn in colours on white that is not seen',
      pixels: [
        [255, 255, 255, 0],
        [9, 0, 0, 255],
        [0, 0, 0, 255],
      ],
      masks: { any: [0, 1, 0], 9: [0, 1, 0] },
    },
    {
      name: 'that is opaque',
      pixels: [
        [0, 0, 0, 255],
        [0, 7, 0, 255],
        [9, 0, 0, 255],
      ],
      masks: { any: [0, 1, 1], 7: [0, 1, 0] },
    },
    {
      name: 'that is transparent throughout, as some programs leave it',
      pixels: [
        [0, 0, 0, 0],
        [0, 7, 0, 0],
        [9, 0, 0, 0],
      ],
      masks: { any: [0, 1, 1], 9: [0, 0, 1] },
    },
  ])('$name', async ({ pixels, masks }) => {
    const bytes = await rgba(pixels)
    for (const [label, want] of Object.entries(masks))
      expect({ label, mask: await maskOf(bytes, label === 'any' ? undefined : Number(label)) }).toEqual({
        label,
        mask: want,
      })
  })

  it('opacity that is the same everywhere is no label', async () => {
    await expect(
      maskOf(
        await rgba([
          [1, 0, 0, 255],
          [0, 0, 0, 255],
        ]),
        255,
      ),
    ).rejects.toMatchObject({
      message: "'label' 255 is nowhere in the mask, which has 1",
    })
  })
})
