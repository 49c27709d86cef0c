/** A job that is called off stops by itself, so that its runner, and the model in it, need not be ended. */
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { JobControl, ToolJob } from '../../../src/contract/job.js'
import { AppError } from '../../../src/errors.js'
import { writeVolume } from '../../../src/formats/write-volume.js'
import { runTool } from '../../../src/pipelines/run-tool.js'
import { makeVolume } from '../../../src/volume/volume.js'
import { runPipeline, voxelNetwork } from '../../helpers/pipeline.js'
import { roomyLimits, scaleAffine, tempFolder, volumeOf } from '../../helpers/volumes.js'

/** A client that hangs up when the job begins to read: the message arrives while the reader is at work. */
function hangsUpWhileReading(): JobControl {
  const abort = new AbortController()
  return {
    signal: abort.signal,
    async checkpoint(stage) {
      if (stage === 'read') abort.abort(new AppError('CANCELLED', 'gone'))
    },
    withDevice: (work) => work(),
  }
}

const kinds = ['ingest', 'mask2polygon', 'fixpolygon'] as const
const extensions = ['.nii', '.nii.gz', '.nrrd'] as const
test.each(kinds.flatMap((kind) => extensions.map((extension) => ({ kind, extension }))))(
  '$kind hears it while it reads a $extension',
  async ({ kind, extension }) => {
    await using folder = await tempFolder()
    const path = join(folder.path, `input${extension}`)
    await writeVolume(volumeOf([64, 64, 64]), path, { extension, kind: 'labels' })
    const images = [{ field: 'image', paths: [path] }]
    const job: ToolJob = { kind, images, params: {}, wish: { file: true }, outDir: folder.path, limits: roomyLimits }
    await expect(runTool(job, hangsUpWhileReading())).rejects.toMatchObject({ message: 'gone' })
  },
)

test.each(extensions)('a model hears it while it reads a %s', async (extension) => {
  await using folder = await tempFolder()
  const path = join(folder.path, `input${extension}`)
  await writeVolume(volumeOf([64, 64, 64]), path, { extension, kind: 'intensity' })
  const config = { version: '3', type: 'segmentation', labels: ['a'], inference: { image: 'image' } }
  const context = { control: hangsUpWhileReading() }
  const run = { config, predictor: voxelNetwork((v) => v), paths: [path], outDir: folder.path, context }
  await expect(runPipeline(run)).rejects.toMatchObject({ message: 'gone' })
})

test('fixpolygon hears it within one ring of 24,000 vertices, many times before the ring is done', async () => {
  await using folder = await tempFolder()
  const path = join(folder.path, 'input.nii')
  const size = [2000, 2000, 1] as const
  const image = new Uint8Array(size[0] * size[1]).map((_, i) => (i * 2_654_435_761) >>> 24)
  await writeVolume(makeVolume(size, scaleAffine([1, 1, 1]), image), path, { extension: '.nii', kind: 'intensity' })
  const ring = Array.from({ length: 24_000 }, (_, i) => {
    const angle = (2 * Math.PI * i) / 24_000
    return [Math.round(1000 + 900 * Math.cos(angle)), Math.round(1000 + 900 * Math.sin(angle))]
  })
  const params = {
    dimension: 2,
    poly: [ring],
    polygon_index: 0,
    vertex_index: 0,
    vertex_offset: [-20, 5],
    propagate_neighbor: 12_000,
  }
  let chances = 0
  const control: JobControl = {
    ...hangsUpWhileReading(),
    signal: new AbortController().signal,
    async checkpoint(stage) {
      if (stage === 'infer' && ++chances === 50) throw new AppError('CANCELLED', 'gone')
    },
  }
  const images = [{ field: 'image', paths: [path] }]
  const job: ToolJob = {
    kind: 'fixpolygon',
    images,
    params,
    wish: { file: false },
    outDir: folder.path,
    limits: roomyLimits,
  }
  await expect(runTool(job, control)).rejects.toMatchObject({ message: 'gone' })
})
