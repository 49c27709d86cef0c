/** The workspace on disks that are too small, or that are several: real mounts, so only where the tests may make them. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ServerProcess } from '../helpers/server-process.js'
import { mayMount, mountDisk } from '../helpers/small-disk.js'
import { niftiFile, volumeOf } from '../helpers/volumes.js'
import { zipBytes } from '../helpers/zip.js'

async function put(server: ServerProcess, image: Uint8Array) {
  const body = new FormData()
  body.append('image', new Blob([image as BlobPart]), 'image')
  const reply = await fetch(`${server.url}/session/`, { method: 'PUT', body })
  return { status: reply.status, json: (await reply.json()) as Record<string, unknown> }
}

test.skipIf(!mayMount)(
  'a disk that a runner fills is a 503 that says so, and the server goes on (needs the right to mount)',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'aidant-full-'))
    const disk = mountDisk(4 << 20)
    try {
      const large = await readFile(
        await niftiFile(folder, volumeOf([256, 256, 64], { value: () => 7 }), 'large.nii.gz'),
      )
      const small = await readFile(await niftiFile(folder, volumeOf([8, 8, 8], {}), 'small.nii.gz'))
      const zip = zipBytes([{ name: 'large.nii', data: Buffer.alloc(8 << 20) }])
      const server = await ServerProcess.start(join(disk.path, 'ws'))
      try {
        for (const image of [large, zip]) {
          const { status, json } = await put(server, image)
          expect([status, json.code, JSON.stringify(json.error)]).toEqual([
            503,
            'BUSY',
            expect.stringContaining('disk of the server is full'),
          ])
        }
        // What the refused request left on the disk goes when its reply has left.
        await expect.poll(async () => (await put(server, small)).status).toBe(200)
      } finally {
        await server.end('SIGTERM')
      }
    } finally {
      disk.unmount()
      await rm(folder, { recursive: true, force: true })
    }
  },
)
