/** A client that asks for a large result and never reads it. */
import { truncate, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import type { Answer } from '../helpers/fake-scheduler.js'
import { form } from '../helpers/multipart.js'
import { testApp } from '../helpers/test-app.js'

/** More than the buffers of both systems hold. */
const RESULT_BYTES = 256 * 1024 * 1024

const largeResult: Answer = async ({ outDir }) => {
  const path = join(outDir, 'result.nii')
  await writeFile(path, '')
  await truncate(path, RESULT_BYTES)
  const file = { path, extension: '.nii', contentType: 'application/octet-stream' }
  return { file, params: {}, timings: {}, notes: [] }
}

const upload = form([{ name: 'image', body: 'voxels', filename: 'a.nii.gz' }])

test.each(['', '&output=image'])('a reply that nobody reads is given up, and its files go (%j)', async (query) => {
  await using app = await testApp({ answer: largeResult, flags: ['--reply-silence', '0.3'] })
  const port = await app.listen()
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.pause()
  const head =
    `POST /v1/inference?model=spleen${query} HTTP/1.1\r\nHost: 127.0.0.1\r\n` +
    `Content-Type: ${upload.headers['content-type']}\r\nContent-Length: ${upload.payload.length}\r\n\r\n`
  socket.write(Buffer.concat([Buffer.from(head), Buffer.from(upload.payload)]))
  await expect.poll(() => app.leftovers()).toHaveLength(1)
  await expect.poll(() => app.leftovers(), { timeout: 20_000 }).toEqual([])
  socket.destroy()
})

test('a client that hung up before its reply leaves no timer behind', async () => {
  let isAsked = false
  const untilGone: Answer = (_job, signal) => {
    isAsked = true
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  }
  await using app = await testApp({ answer: untilGone, flags: ['--reply-silence', '0.3'] })
  const port = await app.listen()
  const set = vi.spyOn(globalThis, 'setInterval')
  const clear = vi.spyOn(globalThis, 'clearInterval')
  try {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    const head =
      'POST /v1/inference?model=spleen HTTP/1.1\r\nHost: 127.0.0.1\r\n' +
      `Content-Type: ${upload.headers['content-type']}\r\nContent-Length: ${upload.payload.length}\r\n\r\n`
    socket.write(Buffer.concat([Buffer.from(head), Buffer.from(upload.payload)]))
    await expect.poll(() => isAsked).toBe(true)
    socket.destroy()
    await expect.poll(() => app.leftovers()).toEqual([])
    // the reply that nobody gets comes after that
    const states = async () =>
      (await app.inject('/v1/requests')).json().requests.map(({ state }: { state: string }) => state)
    await expect.poll(states).toEqual(['cancelled'])
    const ours = set.mock.results.filter((_, i) => set.mock.calls[i]![1] === 300).map(({ value }) => value)
    const cleared = clear.mock.calls.map(([timer]) => timer)
    expect(ours.filter((timer) => !cleared.includes(timer))).toEqual([])
  } finally {
    set.mockRestore()
    clear.mockRestore()
  }
})

test('a client that reads slowly gets all of it', async () => {
  await using app = await testApp({ answer: largeResult, flags: ['--reply-silence', '0.3'] })
  const port = await app.listen()
  const reply = await fetch(`http://127.0.0.1:${port}/v1/inference?model=spleen&output=image`, {
    method: 'POST',
    body: upload.payload,
    headers: upload.headers,
  })
  let bytes = 0
  for await (const chunk of reply.body!) bytes += chunk.length
  expect(bytes).toBe(RESULT_BYTES)
})
