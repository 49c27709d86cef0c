import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import type { JobControl, JobResult, ToolJob } from '../../../src/contract/job.js'
import { AppError } from '../../../src/errors.js'
import type { ResultExtension } from '../../../src/formats/format.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { runTool } from '../../../src/pipelines/run-tool.js'
import { makeVolume, type Vec3, type Volume } from '../../../src/volume/volume.js'
import { roomyLimits, scaleAffine, tempFolder, volumeOf } from '../../helpers/volumes.js'

const control: JobControl = {
  signal: new AbortController().signal,
  checkpoint: async () => {},
  withDevice: (work) => work(),
}

/** A mask with a 3 x 2 block of `label` at x 1..3, y 2..3 of slice 1, and one voxel of label 9 at 5, 5, 2. */
function blockMask(size: Vec3 = [7, 6, 3], label = 1): Volume<Uint8Array> {
  const data = new Uint8Array(size[0] * size[1] * size[2])
  const at = (x: number, y: number, z: number) => x + y * size[0] + z * size[0] * size[1]
  for (let y = 2; y <= 3; y++) for (let x = 1; x <= 3; x++) data[at(x, y, Math.min(1, size[2] - 1))] = label
  if (size[2] > 2) data[at(5, 5, 2)] = 9
  return makeVolume(size, scaleAffine([0.7, 0.8, 3], [-10, 20, 30]), data)
}

interface Run {
  readonly kind?: ToolJob['kind']
  readonly params?: Record<string, unknown>
  readonly extension?: ResultExtension
  readonly sourceExtension?: ResultExtension
  readonly wish?: Partial<ToolJob['wish']>
}

async function run(volume: Volume, options: Run, check: (result: JobResult) => Promise<void>): Promise<void> {
  const { kind = 'mask2polygon', params = {}, extension = '.nii.gz', sourceExtension, wish } = options
  await using folder = await tempFolder()
  const path = join(folder.path, `input${extension}`)
  await writeVolume(volume, path, { extension, kind: 'labels' })
  const image = { field: 'image', paths: [path], extension: sourceExtension }
  const job = { kind, images: [image], params, wish: { file: true, ...wish }, outDir: folder.path, limits: roomyLimits }
  await check(await runTool(job, control))
}

async function polygonsOf(volume: Volume, options: Run = {}): Promise<unknown> {
  let polygons: unknown
  await run(volume, options, async ({ file }) => {
    expect(file).toMatchObject({ contentType: 'application/json' })
    polygons = JSON.parse(await readFile(file!.path, 'utf8'))
  })
  return polygons
}

describe('mask2polygon', () => {
  // Points are [y, x]: the array as nibabel loads it has x down its rows.
  const block = [
    [2, 1],
    [2, 2],
    [2, 3],
    [3, 3],
    [3, 2],
    [3, 1],
  ]

  it.each(['.nii', '.nii.gz', '.nrrd'] as const)('gives every slice of %s its list', async (extension) => {
    expect(await polygonsOf(blockMask(), { extension })).toEqual([[], [block], [[[5, 5]]]])
  })

  it('takes only the label it is asked for', async () => {
    const mask = blockMask([7, 6, 3], 4)
    expect(await polygonsOf(mask, { params: { label: 4 } })).toEqual([[], [block], []])
    expect(await polygonsOf(mask, { params: { label: '9' } })).toEqual([[], [], [[[5, 5]]]])
    expect(await polygonsOf(mask, { params: { label: 9.0004 } })).toEqual([[], [], [[[5, 5]]]])
  })

  it('says which labels there are when the one asked for is nowhere', async () => {
    await expect(polygonsOf(blockMask([7, 6, 3], 4), { params: { label: 77 } })).rejects.toMatchObject({
      code: 'BAD_PARAMS',
      message: "'label' 77 is nowhere in the mask, which has 4, 9",
    })
    await expect(polygonsOf(volumeOf([2, 2, 2], { value: () => 0 }), { params: { label: 1 } })).rejects.toMatchObject({
      message: "'label' 1 is nowhere: the mask is empty",
    })
  })

  describe('of a file of several images', () => {
    const one = blockMask()
    const empty = new Uint8Array(one.data.length)
    const series = makeVolume(one.size, one.affine, Uint8Array.from([...empty, ...one.data]), { channels: 2 })

    it('takes the one that image_index names', async () => {
      expect(await polygonsOf(series, { params: { image_index: 1 } })).toEqual([[], [block], [[[5, 5]]]])
      expect(await polygonsOf(series, { params: { image_index: 0 } })).toEqual([[], [], []])
    })

    it.each([
      { params: {}, message: 'the mask has 2 channels or time points; polygons need one', code: 'BAD_GEOMETRY' },
      {
        params: { image_index: 2 },
        message: "'image_index' is 2, but the file holds 2 images, numbers 0 to 1",
        code: 'BAD_PARAMS',
      },
    ])('$params is refused: $message', async ({ params, message, code }) => {
      await expect(polygonsOf(series, { params })).rejects.toMatchObject({ code, message })
    })

    it('fixpolygon takes it too', async () => {
      const params = { ...{ image_index: 1, poly: [[], [block], []], slice_index: 1, polygon_index: 0 } }
      const edit = { ...params, vertex_index: 0, vertex_offset: [1, 0], dimension: 3 }
      await run(series, { kind: 'fixpolygon', params: edit, wish: { file: false } }, async ({ notes }) => {
        expect(notes).toContain("of the 2 images in the file, number 1 was used ('image_index')")
      })
      await expect(
        run(series, { kind: 'fixpolygon', params: { ...edit, image_index: undefined } }, async () => {}),
      ).rejects.toMatchObject({ code: 'BAD_GEOMETRY' })
    })
  })

  it('leaves out more_points between two points, and simplifies by tolerance', async () => {
    expect(await polygonsOf(blockMask(), { params: { more_points: 1 } })).toEqual([
      [],
      [[block[0], block[2], block[4]]],
      [[[5, 5]]],
    ])
    const corners = [block[0], block[2], block[3], block[5]]
    expect(await polygonsOf(blockMask(), { params: { simplify: 0, more_points: 10 } })).toEqual([
      [],
      [corners],
      [[[5, 5]]],
    ])
  })

  it('reads a picture as a picture: points are [x, y]', async () => {
    const swapped = block.map(([y, x]) => [x, y])
    const [polygons] = (await polygonsOf(blockMask([7, 6, 1]), { extension: '.png' })) as number[][][][]
    expect(polygons![0]!.toSorted()).toEqual(swapped.toSorted())
    expect(polygons![0]![0]).toEqual([1, 2])
  })

  it("reads a session's volume as the file it came from", async () => {
    const asPicture = await polygonsOf(blockMask([7, 6, 1]), { extension: '.png' })
    const asSession = await polygonsOf(blockMask([7, 6, 1]), { extension: '.nii', sourceExtension: '.png' })
    expect(asSession).toEqual(asPicture)
  })

  it.each([
    { name: 'negative and fractional voxels as foreground', voxels: [-0.5, 0, -0] },
    { name: 'what is no number as background', voxels: [0.5, Number.NaN, -0] },
  ])('counts $name', async ({ voxels }) => {
    const volume = makeVolume([3, 1, 1], scaleAffine([1, 1, 1]), Float32Array.from(voxels))
    await using folder = await tempFolder()
    const path = join(folder.path, 'input.nii')
    await writeVolume(volume, path, { extension: '.nii', kind: 'intensity' })
    const images = [{ field: 'image', paths: [path] }]
    const job: ToolJob = {
      kind: 'mask2polygon',
      images,
      params: {},
      wish: { file: true },
      outDir: folder.path,
      limits: roomyLimits,
    }
    const { file } = await runTool(job, control)
    expect(await readFile(file!.path, 'utf8')).toBe('[[[[0,0]]]]')
  })

  it('refuses more than one image, time points, and polygons beyond the limit', async () => {
    const noise = makeVolume(
      [64, 64, 40],
      scaleAffine([1, 1, 1]),
      Uint8Array.from({ length: 64 * 64 * 40 }, (_, i) => (i * 7919) % 3),
    )
    await using folder = await tempFolder()
    const path = join(folder.path, 'noise.nii.gz')
    await writeVolume(noise, path, { extension: '.nii.gz', kind: 'labels' })
    const image = { field: 'image', paths: [path] }
    const job: ToolJob = {
      kind: 'mask2polygon',
      images: [image],
      params: {},
      wish: { file: true },
      outDir: folder.path,
      limits: roomyLimits,
    }
    await expect(runTool({ ...job, images: [image, image] }, control)).rejects.toMatchObject({ code: 'BAD_PARAMS' })
    await expect(runTool({ ...job, images: [] }, control)).rejects.toMatchObject({ code: 'MISSING_IMAGE' })
    const limits = { ...roomyLimits, maxVolumeBytes: 200_000 }
    await expect(runTool({ ...job, limits }, control)).rejects.toMatchObject({ code: 'TOO_LARGE' })

    const times = makeVolume([4, 4, 1], scaleAffine([1, 1, 1]), new Uint8Array(32), { channels: 2 })
    await expect(polygonsOf(times, { extension: '.nii' })).rejects.toMatchObject({ code: 'BAD_GEOMETRY' })
  })

  it('stops when the job is cancelled', async () => {
    const cancelled: JobControl = {
      ...control,
      checkpoint: async (stage) => {
        if (stage === 'infer') throw new AppError('CANCELLED', 'the request was cancelled')
      },
    }
    await using folder = await tempFolder()
    const path = join(folder.path, 'mask.nii')
    await writeVolume(blockMask(), path, { extension: '.nii', kind: 'labels' })
    const images = [{ field: 'image', paths: [path] }]
    const job: ToolJob = {
      kind: 'mask2polygon',
      images,
      params: {},
      wish: { file: true },
      outDir: folder.path,
      limits: roomyLimits,
    }
    await expect(runTool(job, cancelled)).rejects.toMatchObject({ code: 'CANCELLED' })
  })
})

describe('fixpolygon', () => {
  const square = [
    [1, 1],
    [4, 1],
    [4, 4],
    [1, 4],
  ]
  const edit = { polygon_index: 0, vertex_index: 2, vertex_offset: [1, 1], propagate_neighbor: 0 }
  const image = (size: Vec3) =>
    makeVolume(size, scaleAffine([0.7, 0.8, 3], [1, 2, 3]), new Uint8Array(size[0] * size[1] * size[2]))
  const moved = square.with(2, [5, 5])

  test('a picture: the polygons, and a PNG with 1 inside', async () => {
    const options: Run = { kind: 'fixpolygon', extension: '.png', params: { poly: [square], ...edit } }
    await run(image([8, 6, 1]), options, async ({ params, file }) => {
      expect(params).toEqual({ poly: [moved] })
      expect(file).toMatchObject({ extension: '.png', contentType: 'image/png' })
      const { volume } = await readVolume([file!.path], roomyLimits)
      expect(volume.size).toEqual([8, 6, 1])
      const rows = Array.from({ length: 6 }, (_, y) => volume.data.subarray(8 * y, 8 * y + 8).join(''))
      // What cv2.fillPoly makes of these polygons.
      expect(rows).toEqual(['00000000', '01111000', '01111000', '01111000', '01111100', '00001100'])
    })
  })

  test('a volume: points are [y, x], and the mask lies on its grid', async () => {
    const volume = image([8, 6, 3])
    const poly = [[], [square], []]
    const options: Run = { kind: 'fixpolygon', params: { poly, slice_index: 1, ...edit } }
    await run(volume, options, async ({ params, file }) => {
      expect(params).toEqual({ poly: [[], [moved], []] })
      expect(file).toMatchObject({ extension: '.nii.gz' })
      const mask = (await readVolume([file!.path], roomyLimits)).volume
      expect(mask.size).toEqual(volume.size)
      expect([...mask.affine]).toEqual([...(await reread(volume)).affine])
      const filled = [...mask.data].flatMap((value, i) =>
        value === 1 ? [[Math.floor(i / 8) % 6, i % 8, Math.floor(i / 48)]] : [],
      )
      expect(filled).toContainEqual([5, 5, 1])
      expect(filled).toContainEqual([1, 4, 1])
      expect(filled).not.toContainEqual([5, 1, 1])
      expect(filled.every(([, , z]) => z === 1)).toBe(true)
    })
  })

  test('polygons of mask2polygon, fed back and filled, are the mask but for the edit', async () => {
    const mask = blockMask()
    const poly = (await polygonsOf(mask)) as number[][][][]
    const params = { poly, slice_index: 2, polygon_index: 0, vertex_index: 0, vertex_offset: [-1, 0] }
    await run(mask, { kind: 'fixpolygon', params }, async (result) => {
      const { data } = (await readVolume([result.file!.path], roomyLimits)).volume
      const want = mask.data.map((value) => (value === 1 ? 1 : 0))
      want[5 + 4 * 7 + 2 * 42] = 1
      expect([...data]).toEqual([...want])
    })
  })

  test('a polygon within another is a hole', async () => {
    const inner = [
      [2, 2],
      [4, 2],
      [4, 4],
      [2, 4],
    ]
    const outer = [
      [0, 0],
      [6, 0],
      [6, 6],
      [0, 6],
    ]
    const params = { poly: [outer, inner], polygon_index: 0, vertex_index: 2, vertex_offset: [1, 1] }
    await run(image([8, 8, 1]), { kind: 'fixpolygon', extension: '.png', params }, async ({ file }) => {
      const { data } = (await readVolume([file!.path], roomyLimits)).volume
      expect(data[3 + 3 * 8]).toBe(0)
      expect(data[2 + 2 * 8]).toBe(1)
      expect(data[7 + 7 * 8]).toBe(1)
    })
  })

  test('only polygons are wished for: no file; another format and type: as told', async () => {
    const params = { poly: [square], ...edit }
    const options: Run = { kind: 'fixpolygon', extension: '.png', params }
    await run(image([8, 6, 1]), { ...options, wish: { file: false } }, async ({ file }) => {
      expect(file).toBeUndefined()
    })
    await run(image([8, 6, 1]), { ...options, wish: { extension: '.nrrd', dtype: 'uint16' } }, async ({ file }) => {
      const header = (await readFile(file!.path)).toString('latin1', 0, 200)
      expect(header).toMatch(/^NRRD/)
      expect(header).toMatch(/^type: (uint16|unsigned short|ushort)$/m)
    })
  })

  async function reread(volume: Volume): Promise<Volume> {
    await using folder = await tempFolder()
    const path = join(folder.path, 'again.nii')
    await writeVolume(volume, path, { extension: '.nii', kind: 'labels' })
    return (await readVolume([path], roomyLimits)).volume
  }
})

describe('polygons as drawing programs leave them', () => {
  const flat = volumeOf([80, 64, 1], { value: () => 7, make: (n) => new Uint8Array(n) })
  const corner = [
    [20, 20],
    [40, 20],
    [40, 40],
    [20, 40],
  ]
  const params = { dimension: 2, polygon_index: 0, vertex_index: 0, vertex_offset: [8, 8], propagate_neighbor: 0 }

  it.each([0, 4])('no corner of a closed ring stays behind when vertex %i is moved', async (vertex_index) => {
    const masks: number[][] = []
    for (const poly of [[[...corner, corner[0]]], [corner]]) {
      const sent = { ...params, poly, vertex_index: poly[0]!.length > 4 ? vertex_index : 0 }
      await run(flat, { kind: 'fixpolygon', extension: '.png', params: sent }, async ({ file, params: said }) => {
        const moved = [[28, 28], ...corner.slice(1)]
        expect(said.poly).toEqual([poly[0]!.length > 4 ? [...moved, [28, 28]] : moved])
        masks.push(Array.from((await readVolume([file!.path], roomyLimits)).volume.data))
      })
    }
    expect(masks[0]).toEqual(masks[1])
  })

  it('vertices on the very edge stay as they are in the reply, and a note tells of them', async () => {
    const poly = [
      [
        [60, 10],
        [80, 10],
        [80, 64],
        [60.5, 64],
      ],
    ]
    const sent = { ...params, poly, vertex_offset: [2, 3] }
    await run(flat, { kind: 'fixpolygon', extension: '.png', params: sent }, async ({ params: said, notes }) => {
      expect(said.poly).toEqual([
        [
          [62, 13],
          [79, 10],
          [79, 63],
          [60.5, 63],
        ],
      ])
      expect(notes).toEqual(['3 vertices lay up to a pixel outside the image and were put onto its edge'])
    })
  })
})
