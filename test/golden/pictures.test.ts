/** PNG and JPEG of every kind against OpenCV and Pillow (make_pictures_golden.py). */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { roomyLimits } from '../helpers/volumes.js'

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
})
