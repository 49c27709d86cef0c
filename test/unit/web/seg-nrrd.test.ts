/** What the page saves as .seg.nrrd, read by 3D Slicer's own reader of such files for Python. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { LabelMap } from '../../../src/web/label-map.js'
import { segNrrd } from '../../../src/web/seg-nrrd.js'
import { pythonJson, pythonWith } from '../../helpers/python.js'

const python = pythonWith(['nrrd', 'slicerio'])
const READ = `
import json, sys, slicerio
read = slicerio.read_segmentation(sys.argv[1])
print(json.dumps({
  'segments': [[s['name'], s['labelValue'], s['color'], s['extent']] for s in read['segments']],
  'voxels': [int((read['voxels'] == s['labelValue']).sum()) for s in read['segments']],
}))`

test.skipIf(python === undefined)('slicerio finds names, colours, label values and extents', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'aidant-slicerio-'))
  try {
    const map = new LabelMap([4, 5, 3])
    map.write({ min: [0, 0, 0], max: [1, 1, 1] }, new Uint8Array(8).fill(1))
    map.write({ min: [2, 2, 1], max: [3, 4, 2] }, new Uint8Array(12).fill(3))
    const segments = [
      { id: 1, name: 'left kidney: cortex := 2', color: '#ff8000', visible: true },
      { id: 3, name: 'C:\\new | tumour', color: '#3333cc', visible: false },
      { id: 7, name: 'empty', color: '#000000', visible: true },
    ]
    const affine = Float64Array.from([2, 0, 0, 5, 0, 3, 0, 6, 0, 0, 4, 7, 0, 0, 0, 1])
    const path = join(folder, 'x.seg.nrrd')
    await writeFile(path, new Uint8Array(await (await segNrrd(map, affine, segments)).arrayBuffer()))
    expect(await pythonJson(python!, READ, [path])).toEqual({
      segments: [
        ['left kidney: cortex := 2', 1, [1, 0.501961, 0], [0, 1, 0, 1, 0, 1]],
        ['C:\\new | tumour', 3, [0.2, 0.2, 0.8], [2, 3, 2, 4, 1, 2]],
        ['empty', 7, [0, 0, 0], [0, -1, 0, -1, 0, -1]],
      ],
      voxels: [8, 12, 0],
    })
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
