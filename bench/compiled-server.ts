/** The compiled server as a process of its own, for benches that ask it over HTTP. Needs `npm run build`. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

const main = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))

export interface CompiledServer {
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
}

export async function startCompiledServer(workspace: string, flags: readonly string[] = []): Promise<CompiledServer> {
  if (!existsSync(main)) throw new Error('run `npm run build` first')
  const child = spawn(process.execPath, [main, 'serve', '--port', '0', '--workspace', workspace, ...flags], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  for await (const line of createInterface({ input: child.stderr })) {
    const url = /listens on (\S+)/.exec(line)?.[1]
    if (url === undefined) continue
    child.stderr.resume()
    return {
      url,
      pid: child.pid!,
      stop: async () => {
        child.kill()
        await once(child, 'exit')
      },
    }
  }
  throw new Error('the server did not start')
}

/** Bytes of a process as the system counts them (Linux): now, or at most so far. */
export function memoryOf(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const line = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))
  return Number(line?.[1] ?? 0) * 1024
}

/** A model of test/fixtures with the plainest config, by PUT. */
export async function publish(url: string, name: string, fixture: string, inference: object = {}): Promise<void> {
  const fields = { args: { fields: 'image' } }
  const config = {
    version: '3',
    type: 'segmentation',
    labels: ['bright'],
    description: 'for a bench',
    pre_transforms: [
      { name: 'LoadNifti', ...fields },
      { name: 'ConvertToChannelsFirst', ...fields },
    ],
    inference: { image: 'image', name: 'TRTISInference', ...inference },
    post_transforms: [{ name: 'ArgmaxAcrossChannels', args: { fields: 'model' } }],
    writer: { name: 'WriteNifti', args: { field: 'model', dtype: 'uint8' } },
  }
  const weights = readFileSync(new URL(`../test/fixtures/models/${fixture}.onnx`, import.meta.url))
  const body = new FormData()
  body.append('config', new Blob([JSON.stringify(config)], { type: 'application/json' }), 'config_aiaa.json')
  body.append('data', new Blob([weights]), 'model.onnx')
  const reply = await fetch(`${url}/admin/model/${name}`, { method: 'PUT', body })
  if (!reply.ok) throw new Error(await reply.text())
}

export async function segment(url: string, name: string, scan: Blob): Promise<void> {
  const body = new FormData()
  body.append('params', '{}')
  body.append('image', scan, 'scan.nii')
  const reply = await fetch(`${url}/v1/segmentation?model=${name}&output=image`, { method: 'POST', body })
  if (!reply.ok) throw new Error(await reply.text())
  await reply.arrayBuffer()
}

/** An int16 NIfTI of 1 mm voxels, its values a ramp of 0 to 99. */
export function scanOf(nx: number, ny: number, nz: number): Blob {
  const header = Buffer.alloc(352)
  header.writeInt32LE(348, 0)
  for (const [i, n] of [3, nx, ny, nz, 1, 1, 1, 1].entries()) header.writeInt16LE(n, 40 + 2 * i)
  header.writeInt16LE(4, 70)
  header.writeInt16LE(16, 72)
  for (let i = 0; i < 8; i++) header.writeFloatLE(1, 76 + 4 * i)
  header.writeFloatLE(352, 108)
  header.writeUInt8(2, 123)
  header.writeInt16LE(1, 254)
  for (const i of [0, 5, 10]) header.writeFloatLE(1, 280 + 4 * i)
  header.write('n+1\0', 344, 'latin1')
  const slice = Int16Array.from({ length: nx * ny }, (_, i) => i % 100)
  return new Blob([header, ...Array.from({ length: nz }, () => slice)])
}
