/** DICOM series of every transfer syntax, number type and geometry, against values known when they were made. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { readDicomSeries } from '../../src/formats/dicom-series.js'
import { dicomFixtures } from '../helpers/dicom-fixtures.js'

/** make_dicom_golden.py and make_dicom_relatives.py say what each case is. */
interface Case {
  readonly name: string
  readonly size: number[]
  readonly affine: number[][]
  readonly dtype: 'int32' | 'float64'
  /** Lossy JPEG decoders may differ by this much. */
  readonly within?: number
  /** Words of a note that a user should see. */
  readonly note?: string
  /** The code, and words of the message. */
  readonly error?: [string, string]
}

const LIMITS = { maxVolumeBytes: 2 ** 31, maxVoxels: 2 ** 30 }
const root = await mkdtemp(join(tmpdir(), 'dicom-golden-'))
afterAll(() => rm(root, { recursive: true, force: true }))

describe.each(['encodings', 'geometry', 'relatives'] as const)('DICOM %s', async (part) => {
  const { named } = await dicomFixtures(part, root)
  const cases: Case[] = JSON.parse(await readFile(named('cases.json')[0]!, 'utf8'))

  it.each(cases.filter((one) => one.error))('$name is refused', async ({ name, error }) => {
    const [code, words] = error!
    await expect(readDicomSeries(named(`${name}/`), LIMITS)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(words),
    })
  })

  it.each(cases.filter((one) => !one.error))('$name', async ({ name, size, affine, dtype, note, within = 0 }) => {
    const { volume, format, notes } = await readDicomSeries(named(`${name}/`), LIMITS)
    const bytes = await readFile(named(`${name}.bin`)[0]!)
    const exact = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)
    const wanted = dtype === 'int32' ? new Int32Array(exact) : new Float64Array(exact)
    expect(format).toBe('dicom')
    if (note) expect(notes.join('\n')).toContain(note)
    expect([...volume.size, volume.channels].slice(0, size.length)).toEqual(size)
    expect(volume.data.length).toBe(wanted.length)
    let worst = 0
    for (let i = 0; i < wanted.length; i++) {
      // Real values are float32 at best.
      const want = volume.data instanceof Float32Array ? Math.fround(wanted[i]!) : wanted[i]!
      worst = Math.max(worst, Math.abs(volume.data[i]! - want))
    }
    expect(worst).toBeLessThanOrEqual(within)
    for (const [i, value] of affine.flat().entries()) expect(volume.affine[i]).toBeCloseTo(value, 5)
  })
})
