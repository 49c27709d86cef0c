/** mask2polygon on real label maps, byte for byte what nibabel and OpenCV make of them. */

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { runTool } from '../../src/pipelines/run-tool.js'
import { idleControl } from '../helpers/pipeline.js'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { sharedData } from '../helpers/shared-data.js'
import { roomyLimits, tempFolder } from '../helpers/volumes.js'

const python = pythonWith(['cv2', 'nibabel'])
const MORE_POINTS = [0, 1, 5, 10, 50]

/** For every label asked for (null: all of them together), the sha256 of the JSON for every more_points. */
const OPENCV = `
import cv2, hashlib, json, nibabel, numpy as np, sys
mask = np.asanyarray(nibabel.load(sys.argv[1]).dataobj)
present = [int(v) for v in np.unique(mask) if v != 0]
labels = [None] + present[:: max(1, len(present) // 6)]
out = []
for label in labels:
    slices = []
    for k in range(mask.shape[2]):
        binary = np.ascontiguousarray(mask[:, :, k] != 0 if label is None else mask[:, :, k] == label, np.uint8)
        contours, _ = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_NONE)
        slices.append([c.reshape(-1, 2) for c in contours])
    for n in json.loads(sys.argv[2]):
        lists = [[(r if len(r) <= 5 else r[:: n + 1]).tolist() for r in rings] for rings in slices]
        text = json.dumps(lists, separators=(",", ":"))
        out.append(dict(label=label, more_points=n, sha256=hashlib.sha256(text.encode()).hexdigest()))
print(json.dumps(out))
`

interface Expected {
  readonly label: number | null
  readonly more_points: number
  readonly sha256: string
}

describe.skipIf(!python || !sharedData)(
  'against nibabel and OpenCV (needs Python with cv2, and ../shared/data)',
  () => {
    it.each([
      'nifti/totalsegmentator/example_ct_seg117.nii.gz',
      'nifti/totalsegmentator/example_ct_sm_seg117.nii.gz',
      'nifti/totalsegmentator/example_mr_sm_seg50.nii.gz',
      'nifti/totalsegmentator/aorta_ct_aorta.nii.gz',
      'nifti/qin_gbm/PGBM-001_t0_MaskTumor.nii.gz',
      'nifti/qin_gbm/PGBM-003_t0_MaskTumor.nii.gz',
      'dicom/ts_ct20_seg117.nii.gz',
    ])('%s', async (name) => {
      const path = join(sharedData!, name)
      const expected = (await pythonJson(python!, OPENCV, [path, JSON.stringify(MORE_POINTS)])) as Expected[]
      const got: Expected[] = []
      for (const { label, more_points } of expected) {
        await using folder = await tempFolder()
        const job = {
          kind: 'mask2polygon',
          images: [{ field: 'image', paths: [path] }],
          params: { label, more_points },
          wish: { file: true },
          outDir: folder.path,
          limits: roomyLimits,
        } as const
        const { file } = await runTool(job, idleControl)
        const sha256 = createHash('sha256')
          .update(await readFile(file!.path))
          .digest('hex')
        got.push({ label, more_points, sha256 })
      }
      expect(got.length).toBeGreaterThanOrEqual(2 * MORE_POINTS.length)
      expect(got).toEqual(expected)
    })
  },
)
