import { expect, test } from 'vitest'
import { sessionImage, sessionMask } from '../../../src/http/session-image.js'
import type { HeldSession } from '../../../src/sessions/sessions.js'

const held = (format: string, source: string) =>
  ({
    meta: {
      id: 's',
      extension: '.png',
      source: { file: source, contentType: '' },
      image: { format, size: [2, 2, 1], channels: 1 },
    },
    volumePath: '/s/volume.nii',
    sourcePath: `/s/${source}`,
    seriesPaths: [],
    release() {},
  }) as unknown as HeldSession

test.each([
  { name: 'a PNG may have a palette', format: 'png', source: 'source.png', mask: '/s/source.png' },
  { name: 'so may a BMP', format: 'bmp', source: 'source.bmp', mask: '/s/source.bmp' },
  { name: 'a NIfTI has its labels in its voxels', format: 'nifti', source: 'source.nii', mask: '/s/volume.nii' },
  { name: 'and so has a DICOM series', format: 'dicom', source: 'volume.nii', mask: '/s/volume.nii' },
])('as a mask: $name', ({ format, source, mask }) => {
  expect(sessionMask(held(format, source)).paths).toEqual([mask])
  expect(sessionImage(held(format, source)).paths).toEqual(['/s/volume.nii'])
})
