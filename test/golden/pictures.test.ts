/** PNG and JPEG of every kind against OpenCV and Pillow (make_pictures_golden.py). */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { roomyLimits, tempFolder } from '../helpers/volumes.js'

interface Golden {
  readonly width: number
  readonly height: number
  readonly channels: number
  readonly samples: readonly number[]
}

const at = (name: string) => fileURLToPath(new URL(`pictures/${name}`, import.meta.url))
const golden: Record<string, Golden> = JSON.parse(readFileSync(at('golden.json'), 'utf8'))

describe('pictures', () => {
  it.each(Object.keys(golden))('%s gives its samples', async (name) => {
    const want = golden[name]!
    const { volume, format } = await readVolume([at(name)], roomyLimits)
    expect(format).toBe(name.endsWith('.png') ? 'png' : 'jpeg')
    expect(volume.size).toEqual([want.width, want.height, 1])
    expect(volume.channels).toBe(want.channels)
    // JPEG decoders differ in the last bit of colour conversion.
    const most = name.endsWith('.png') ? 0 : 1
    let off = 0
    for (const [i, value] of want.samples.entries()) off = Math.max(off, Math.abs(volume.data[i]! - value))
    expect(volume.data.length).toBe(want.samples.length)
    expect(off).toBeLessThanOrEqual(most)
  })

  it.each([
    { orientation: 1, notes: [] },
    { orientation: 6, notes: [expect.stringMatching(/shown turned \(EXIF orientation 6\); .* as stored/)] },
  ])('are counted as stored, and say so where EXIF turns them: $orientation', async ({ orientation, notes }) => {
    await using folder = await tempFolder()
    const path = join(folder.path, 'photo.jpg')
    const grey = sharp(new Uint8Array(12), { raw: { width: 4, height: 3, channels: 1 } })
    await writeFile(path, await grey.withMetadata({ orientation }).jpeg().toBuffer())
    const read = await readVolume([path], roomyLimits)
    expect(read.volume.size).toEqual([4, 3, 1])
    expect(read.notes).toEqual(notes)
  })
})
