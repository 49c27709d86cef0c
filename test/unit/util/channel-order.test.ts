import { expect, it } from 'vitest'
import { inChannelOrder } from '../../../src/util/channel-order.js'

it.each<[string, string[], string[]]>([
  [
    'channels of one case, sent the wrong way round',
    ['c_0001.nii.gz', 'c_0000.nii.gz'],
    ['c_0000.nii.gz', 'c_0001.nii.gz'],
  ],
  ['more than two', ['c_0002.nii', 'c_0000.nii', 'c_0001.nii'], ['c_0000.nii', 'c_0001.nii', 'c_0002.nii']],
  ['other names stay', ['t2.nii.gz', 't1.nii.gz'], ['t2.nii.gz', 't1.nii.gz']],
  ['two cases stay', ['b_0001.nii.gz', 'a_0000.nii.gz'], ['b_0001.nii.gz', 'a_0000.nii.gz']],
  ['a number twice stays', ['c_0000.nii.gz', 'c_0000.nii.gz'], ['c_0000.nii.gz', 'c_0000.nii.gz']],
  ['slices of a series have more digits', ['I_00002.dcm', 'I_00001.dcm'], ['I_00002.dcm', 'I_00001.dcm']],
])('%s', (_, names, want) => {
  const files = names.map((filename, i) => ({ field: i === 0 ? 'image' : `image${i}`, filename }))
  const ordered = inChannelOrder(files)
  expect(ordered.map(({ filename }) => filename)).toEqual(want)
  expect(ordered.map(({ field }) => field)).toEqual(files.map(({ field }) => field))
})
