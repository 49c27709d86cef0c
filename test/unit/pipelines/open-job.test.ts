import { execFile } from 'node:child_process'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { openJob } from '../../../src/pipelines/open-job.js'
import { idleControl } from '../../helpers/pipeline.js'
import { roomyLimits, tempFolder } from '../../helpers/volumes.js'

const { signal } = idleControl

test.skipIf(process.platform === 'win32')('1,500 files are sorted by a process that may open 256', async () => {
  await using folder = await tempFolder()
  await mkdir(join(folder.path, 'files'))
  for (let i = 0; i < 1500; i++) await writeFile(join(folder.path, 'files', `${i}`), 'not an image')
  const script = fileURLToPath(new URL('../../helpers/sort-files.ts', import.meta.url))
  const words = ['-c', 'ulimit -n 256; exec "$@"', 'sh', process.execPath, '--import', 'tsx', script]
  const { stdout } = await promisify(execFile)('sh', [...words, join(folder.path, 'files')])
  expect(stdout.trim()).toBe('1500')
})

test('params in a file are read, and what they say of the result counts', async () => {
  await using folder = await tempFolder()
  const paramsPath = join(folder.path, 'params.json')
  await writeFile(paramsPath, '{points: [[1, 2, 3]], result_extension: "nrrd"}')
  const job = {
    kind: 'fixpolygon' as const,
    images: [],
    params: {},
    paramsPath,
    wish: { file: true, extension: '.nii' as const },
    outDir: folder.path,
    limits: roomyLimits,
  }
  const opened = await openJob(job, signal)
  expect(opened.params).toEqual({ points: [[1, 2, 3]], result_extension: 'nrrd' })
  expect(opened.wish.extension).toBe('.nrrd')
})
