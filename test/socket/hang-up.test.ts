/** A client that goes away: its job stops and nothing of it stays. */
import { expect, test } from 'vitest'
import { untilCancelled } from '../helpers/fake-scheduler.js'
import { form } from '../helpers/multipart.js'
import { openRaw } from '../helpers/raw-http.js'
import { testApp } from '../helpers/test-app.js'

const { payload, headers } = form([{ name: 'image', body: Buffer.alloc(100_000), filename: 'a.nii' }])
const head =
  'POST /v1/segmentation?model=spleen HTTP/1.1\r\nHost: localhost\r\n' +
  `Content-Type: ${headers['content-type']}\r\nContent-Length: ${payload.length}\r\n\r\n`

test('during its job cancels it', async () => {
  let reason: unknown
  await using app = await testApp({
    answer: (job, signal, onProgress) => {
      signal.addEventListener('abort', () => {
        reason = signal.reason
      })
      return untilCancelled(job, signal, onProgress)
    },
  })
  const port = await app.listen()
  const socket = await openRaw(port, Buffer.concat([Buffer.from(head), payload]))
  await expect.poll(() => app.scheduler.asked.length).toBe(1)
  expect(await app.leftovers()).toHaveLength(1)
  socket.destroy()
  await expect.poll(() => reason).toMatchObject({ code: 'CANCELLED' })
  await expect.poll(() => app.leftovers()).toEqual([])
})

test('during its upload leaves nothing, and no job is begun', async () => {
  await using app = await testApp()
  const port = await app.listen()
  const socket = await openRaw(port, Buffer.concat([Buffer.from(head), payload.subarray(0, 60_000)]))
  await expect.poll(() => app.leftovers()).toHaveLength(1)
  socket.destroy()
  await expect.poll(() => app.leftovers()).toEqual([])
  expect(app.scheduler.asked).toEqual([])
})

test('during a bare upload leaves nothing, and no job is begun', async () => {
  await using app = await testApp()
  const port = await app.listen()
  const socket = await openRaw(
    port,
    'POST /v1/segmentation?model=spleen HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 900\r\n\r\nPNG',
  )
  await expect.poll(() => app.leftovers()).toHaveLength(1)
  socket.destroy()
  await expect.poll(() => app.leftovers()).toEqual([])
  expect(app.scheduler.asked).toEqual([])
})
