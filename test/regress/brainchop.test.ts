/** Real brain networks on a real head: the label maps that came with the data, from configs as a user writes them. */

import { readFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { readVolume } from '../../src/formats/read-volume.js'
import { createOnnxPredictor } from '../../src/predictors/onnxruntime.js'
import { runPipeline } from '../helpers/pipeline.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits } from '../helpers/volumes.js'

const configOf = (model: string): Record<string, unknown> =>
  JSON.parse(readFileSync(fileURLToPath(new URL(`../fixtures/models/${model}.json`, import.meta.url)), 'utf8'))

describe.skipIf(!sharedData)('networks of ../shared/data', () => {
  it.each([
    { model: 'meshnet5_tissue3', reference: 't1_crop_ref_meshnet5', classes: 2 },
    { model: 'meshnet30_subcortical18', reference: 't1_crop_ref_meshnet30_18', classes: 17 },
  ])(
    '$model: Dice of at least 0.99 for each of $classes classes',
    async ({ model, reference, classes }) => {
      const brain = join(sharedData!, 'nifti/brain')
      const input = join(brain, 't1_crop_brainchop.nii.gz')
      const predictor = await createOnnxPredictor(join(sharedData!, `models/brainchop/${model}.onnx`), {
        device: { kind: 'cpu', index: 0 },
        session: {},
        arena: true,
      })
      const outDir = await mkdtemp(join(tmpdir(), 'aidant-test-'))
      const result = await runPipeline({ config: configOf(model), predictor, paths: [input], outDir })
      await predictor.close()
      const [ours, theirs, image] = await Promise.all(
        [result.file!.path, join(brain, `${reference}.nii.gz`), input].map(
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
