/** Slices that are not evenly spaced: networks that work slice by slice take them, those of three dimensions refuse. */
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { JobImage } from '../../../src/contract/job.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { ingest } from '../../../src/pipelines/ingest.js'
import { dicomFixtures } from '../../helpers/dicom-fixtures.js'
import { idleControl, runPipeline, step, voxelNetwork } from '../../helpers/pipeline.js'
import { roomyLimits } from '../../helpers/volumes.js'

const config = {
  version: '3',
  type: 'segmentation',
  labels: ['bright'],
  description: '',
  pre_transforms: [step('LoadImaged'), step('EnsureChannelFirstd')],
  inference: { image: 'image', name: 'TRTISInference', node_mapping: { x: 'image', y: 'model' } },
  post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
  writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
}

let root: string
let posted: JobImage
let kept: JobImage
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'uneven-'))
  const paths = (await dicomFixtures('geometry', root)).named('uneven-gaps/')
  posted = { field: 'image', paths }
  // Ingesting moves the files it is given.
  const copies = paths.map((_, i) => join(root, String(i)))
  await Promise.all(paths.map((path, i) => cp(path, copies[i]!)))
  const outDir = await mkdtemp(join(root, 'session-'))
  const images = [{ field: 'image', paths: copies }]
  const { params } = await ingest(
    { kind: 'ingest', images, params: {}, wish: { file: true }, outDir, limits: roomyLimits },
    idleControl,
  )
  const { uneven } = params.image as { uneven?: string }
  kept = { field: 'image', paths: [join(outDir, 'volume.nii')], uneven }
})
afterAll(() => rm(root, { recursive: true, force: true }))

describe.each([
  { way: 'posted', image: () => posted },
  { way: 'by session', image: () => kept },
])('a series with uneven gaps, $way', ({ image }) => {
  const run = async (rank: 2 | 3) => {
    const outDir = await mkdtemp(join(root, 'out-'))
    const predictor = voxelNetwork(([v]) => [0, v!], { rank })
    return runPipeline({ config, predictor, paths: [], outDir, job: { images: [image()] } })
  }

  it('is segmented slice by slice by a 2-D network', async () => {
    const { file } = await run(2)
    const mask = (await readVolume([file!.path], roomyLimits)).volume
    const { volume } = await readVolume(posted.paths, roomyLimits)
    expect(mask.size).toEqual(volume.size)
    expect([...mask.data]).toEqual([...volume.data].map((value) => Number(value > 0)))
  })

  it('is refused by a 3-D network, in words', async () => {
    await expect(run(3)).rejects.toMatchObject({
      code: 'BAD_GEOMETRY',
      message: expect.stringMatching(/three dimensions.*not evenly spaced/),
    })
  })
})
