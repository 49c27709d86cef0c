/** The bundled click models on pictures and slices of any size and colour, over HTTP: what is clicked comes out, at its own place. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import type { Vec3 } from '../../src/volume/volume.js'
import { ServerProcess } from '../helpers/server-process.js'
import { niftiFile, roomyLimits, tempFolder, volumeOf } from '../helpers/volumes.js'

interface Scene {
  readonly name: string
  readonly size: Vec3
  /** Middle and radius of a bright disc on a dark ground with a brighter stripe far from it; it lies in the last slice. */
  readonly disc: readonly [number, number, number]
  readonly colour?: boolean
}

const scenes: readonly Scene[] = [
  { name: 'a small grey picture', size: [80, 64, 1], disc: [30, 30, 12] },
  { name: 'a small picture in colour', size: [80, 64, 1], disc: [50, 30, 12], colour: true },
  { name: 'a wide picture', size: [700, 180, 1], disc: [500, 90, 50] },
  { name: 'a picture larger than the window that is looked at', size: [1300, 1200, 1], disc: [1100, 1000, 60] },
  { name: 'a slice of a volume', size: [120, 150, 4], disc: [70, 100, 20] },
]

const inDisc = ({ disc: [cx, cy, r], size }: Scene, i: number): boolean => {
  const [x, y] = [i % size[0], Math.floor(i / size[0]) % size[1]]
  return i >= size[0] * size[1] * (size[2] - 1) && (x - cx) ** 2 + (y - cy) ** 2 <= r * r
}

/** Noise without a pattern that is the same in every run. */
const noise = (i: number): number => {
  const mixed = Math.imul(i ^ (i >>> 15) ^ 0x9e3779b9, 0x85ebca6b)
  return ((Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35) >>> 16) % 21) - 10
}

const grey = (scene: Scene, i: number): number => {
  const stripe = i % scene.size[0] < 4 ? 60 : 0
  return (inDisc(scene, i) ? 180 : 60) + stripe + noise(i)
}

async function fileOf(scene: Scene, folder: string): Promise<string> {
  const { size, colour } = scene
  if (size[2] > 1) return niftiFile(folder, volumeOf(size, { value: (i) => grey(scene, i) }))
  const path = join(folder, 'picture.png')
  const channels = colour ? 3 : 1
  const pixels = Uint8Array.from({ length: size[0] * size[1] * channels }, (_, i) => {
    const value = grey(scene, Math.floor(i / channels))
    return i % channels === 1 ? value / 2 : value
  })
  await sharp(pixels, { raw: { width: size[0], height: size[1], channels } })
    .png()
    .toFile(path)
  return path
}

describe('deepgrow_2d, one click in the middle of a disc', () => {
  let server: ServerProcess
  let folder: Awaited<ReturnType<typeof tempFolder>>
  beforeAll(async () => {
    folder = await tempFolder()
    server = await ServerProcess.start(join(folder.path, 'ws'), ['--device', 'cpu'])
  }, 60_000)
  afterAll(async () => {
    await server.end('SIGTERM')
    await folder[Symbol.asyncDispose]()
  })

  it.each(scenes)('in $name: Dice of at least 0.8 with the disc', async (scene) => {
    const file = await fileOf(scene, folder.path)
    const body = new FormData()
    const click = [scene.disc[0], scene.disc[1], scene.size[2] - 1]
    body.append('params', JSON.stringify({ foreground: [click], background: [] }))
    body.append('image', new Blob([new Uint8Array(await readFile(file))]), file.endsWith('png') ? 'p.png' : 's.nii.gz')
    const reply = await fetch(`${server.url}/v1/deepgrow?model=deepgrow_2d&output=image`, { method: 'POST', body })
    expect(reply.status).toBe(200)
    const answer = join(folder.path, file.endsWith('png') ? 'answer.png' : 'answer.nii.gz')
    await writeFile(answer, new Uint8Array(await reply.arrayBuffer()))
    const { volume } = await readVolume([answer], roomyLimits)
    expect(volume.size).toEqual(scene.size)
    let [both, sum] = [0, 0]
    for (let i = 0; i < volume.data.length; i++) {
      const [found, meant] = [volume.data[i] !== 0, inDisc(scene, i)]
      both += Number(found && meant)
      sum += Number(found) + Number(meant)
    }
    expect((2 * both) / sum).toBeGreaterThan(0.8)
  })
})
