/** POST /v1/dicom_seg: the label map of the request and the series of the session reach the tool together. */
import { expect, test } from 'vitest'
import type { ToolJob } from '../../src/contract/job.js'
import type { HeldSession, Sessions } from '../../src/sessions/sessions.js'
import { labelMap } from '../helpers/fake-scheduler.js'
import { form } from '../helpers/multipart.js'
import { testApp } from '../helpers/test-app.js'

const held = (seriesPaths: readonly string[]): Sessions =>
  ({
    hold: async () =>
      ({ seriesPaths, volumePath: '/v.nii', sourcePath: '/s', release: async () => {} }) as unknown as HeldSession,
    close: async () => {},
  }) as unknown as Sessions

const ask = async (seriesPaths: readonly string[]) => {
  await using app = await testApp({ answer: labelMap, services: { sessions: held(seriesPaths) } })
  const { payload, headers } = form([
    { name: 'segments', body: '[{"label": 1, "name": "liver"}]' },
    { name: 'image', body: 'a label map', filename: 'labels.nii.gz' },
  ])
  const reply = await app.inject({ method: 'POST', url: '/v1/dicom_seg?session_id=one', payload, headers })
  return { reply, job: app.scheduler.asked[0]?.job as ToolJob | undefined }
}

test("a session's series and the drawn label map reach the tool together", async () => {
  const { reply, job } = await ask(['/series/1', '/series/2'])
  expect(reply.statusCode).toBe(200)
  expect(job?.kind).toBe('dicomSeg')
  expect(job?.images.map(({ paths }) => paths.length)).toEqual([1, 2])
  expect(job?.params).toEqual({ segments: [{ label: 1, name: 'liver' }] })
})

test('a session whose image is no DICOM series is refused by that name', async () => {
  const { reply } = await ask([])
  expect(reply.statusCode).toBe(400)
  expect(reply.json().error.message[0]).toContain('no DICOM series')
})
