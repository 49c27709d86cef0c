/** A form whose first file input was left empty made the next file take its name on disk, and the request end in a 500. */
import { expect, test } from 'vitest'
import { form } from '../helpers/multipart.js'
import { testApp } from '../helpers/test-app.js'

test('an empty file input before the image is passed over', async () => {
  await using app = await testApp()
  const { payload, headers } = form([
    { name: 'datapoint', body: '', filename: '' },
    { name: 'image', body: 'voxels', filename: 'a.nii.gz' },
  ])
  const reply = await app.inject({ method: 'POST', url: '/v1/segmentation?model=spleen', payload, headers })
  expect(reply.statusCode).toBe(200)
  expect(app.scheduler.asked[0]!.job.images).toHaveLength(1)
})
