import { expect, test } from 'vitest'
import type { JobControl, ToolJob } from '../../../src/contract/job.js'
import { labelMapToSeg } from '../../../src/pipelines/label-map-to-seg.js'

const job = (segments: unknown): ToolJob => ({
  kind: 'dicomSeg',
  images: [],
  params: { segments },
  wish: { file: true },
  outDir: '/nowhere',
  limits: { maxVolumeBytes: 1e6, maxVoxels: 1e6 },
})

test.each([
  ['no list', 'liver', /^segments: /],
  ['an empty list', [], /^segments: /],
  ['a label of 0, which is the background', [{ label: 0, name: 'liver' }], /^segments\.0\.label: /],
  ['a label beyond a byte', [{ label: 256, name: 'liver' }], /^segments\.0\.label: /],
  ['a segment without a name', [{ label: 1, name: ' ' }], /^segments\.0\.name: /],
  ['a key that nobody reads', [{ label: 1, name: 'liver', colour: 'red' }], /^segments\.0: /],
  ['a label twice', [1, 1].map((label) => ({ label, name: 'liver' })), /^segments\.1\.label: 1 is named twice/],
] as const)('%s is refused by name', async (_name, segments, message) => {
  const refused = labelMapToSeg(job(segments), {} as JobControl)
  await expect(refused).rejects.toMatchObject({ code: 'BAD_PARAMS', message: expect.stringMatching(message) })
})
