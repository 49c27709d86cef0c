/** A server closed right after a reply to a keep-alive client once waited out that client's 72 s. */
import { expect, test } from 'vitest'
import { testApp } from '../helpers/test-app.js'

test('closing does not wait for clients that keep their connection', { timeout: 30_000 }, async () => {
  for (let i = 0; i < 40; i++) {
    await using app = await testApp()
    const port = await app.listen()
    const data = new FormData()
    data.append('image', new Blob(['voxels']), 'image.nii')
    const reply = await fetch(`http://127.0.0.1:${port}/v1/segmentation?model=spleen&output=image`, {
      method: 'POST',
      body: data,
    })
    expect(await reply.text()).toBe('label map')
  }
})
