/** Real brain networks on a real head, from PUT to label map: the maps that came with the data, with configs as a user writes them. */
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { ServerProcess } from '../helpers/server-process.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits, tempFolder } from '../helpers/volumes.js'

const configOf = (model: string): Buffer =>
  readFileSync(fileURLToPath(new URL(`../fixtures/models/${model}.json`, import.meta.url)))

describe.skipIf(!sharedData)('networks of ../shared/data (skipped without it)', () => {
  it.each([
    { model: 'meshnet5_tissue3', reference: 't1_crop_ref_meshnet5', classes: 2 },
    { model: 'meshnet30_subcortical18', reference: 't1_crop_ref_meshnet30_18', classes: 17 },
  ])(
    '$model, loaded by PUT: Dice of at least 0.99 for each of $classes classes',
    async ({ model, reference, classes }) => {
      const brain = join(sharedData!, 'nifti/brain')
      const input = join(brain, 't1_crop_brainchop.nii.gz')
      await using folder = await tempFolder()
      const server = await ServerProcess.start(join(folder.path, 'ws'), ['--device', 'cpu'])
      const weights = new FormData()
      weights.append('config', new Blob([new Uint8Array(configOf(model))], { type: 'application/json' }), 'config.json')
      const onnx = await readFile(join(sharedData!, `models/brainchop/${model}.onnx`))
      weights.append('data', new Blob([new Uint8Array(onnx)]), 'model.onnx')
      expect((await fetch(`${server.url}/admin/model/${model}`, { method: 'PUT', body: weights })).status).toBe(200)

      const scan = new FormData()
      scan.append('image', new Blob([new Uint8Array(await readFile(input))]), 'scan.nii.gz')
      const asked = await fetch(`${server.url}/v1/segmentation?model=${model}&async=true`, {
        method: 'POST',
        body: scan,
      })
      const result = `${server.url}${asked.headers.get('location')}?output=image`
      let reply = asked
      await expect
        .poll(
          async () => {
            reply = await fetch(result)
            return reply.status
          },
          { timeout: 500_000, interval: 500 },
        )
        .toBe(200)
      const output = join(folder.path, 'labels.nii.gz')
      await writeFile(output, new Uint8Array(await reply.arrayBuffer()))
      expect(await server.end('SIGTERM')).toBe(0)

      const [ours, theirs, image] = await Promise.all(
        [output, join(brain, `${reference}.nii.gz`), input].map(
          async (path) => (await readVolume([path], roomyLimits)).volume,
        ),
      )
      expect(ours!.affine).toEqual(image!.affine)
      const both = new Float64Array(classes + 1)
      const sums = new Float64Array(classes + 1)
      for (let i = 0; i < ours!.data.length; i++) {
        const [a, b] = [ours!.data[i]!, theirs!.data[i]!]
        sums[a]!++
        sums[b]!++
        if (a === b) both[a]!++
      }
      const dice = Array.from({ length: classes }, (_, i) => (2 * both[i + 1]!) / sums[i + 1]!)
      for (const value of dice) expect(value).toBeGreaterThan(0.99)
    },
    600_000,
  )
})
