import { z } from 'zod'
import type { Vec3, Volume } from '../../volume/volume.js'
import { fieldArgs } from '../args.js'
import { boxed } from '../crop-pad.js'
import { requireImage, withImage } from '../fields.js'
import type { TransformDefinition } from '../types.js'

const args = fieldArgs({
  /** Fields on the same grid, such as the label map of an earlier stage, that are cut to the image's box. */
  also: z.array(z.string()).default([]),
})

/** nnU-Net's crop_to_nonzero: the box of the voxels that are not zero in every channel. An image of zeros stays whole. */
export const nnunetCrop: TransformDefinition<typeof args> = {
  names: ['NnUNetCropd'],
  args,
  create: (a) => (item) =>
    a.keys.reduce((current, key) => {
      const box = nonzeroBox(requireImage(current, key).volume)
      if (!box) return current
      return [key, ...a.also].reduce(
        (cut, name) => withImage(cut, name, boxed(requireImage(cut, name), box.start, box.end, 'NnUNetCropd')),
        current,
      )
    }, item),
}

/** First and one past the last nonzero voxel along each axis. */
function nonzeroBox({ size, channels, data }: Volume): { start: Vec3; end: Vec3 } | undefined {
  const [nx, ny, nz] = size
  const start: [number, number, number] = [nx, ny, nz]
  const end: [number, number, number] = [0, 0, 0]
  let row = 0
  for (let c = 0; c < channels; c++) {
    for (let z = 0; z < nz; z++) {
      for (let y = 0; y < ny; y++, row += nx) {
        let low = 0
        while (low < nx && data[row + low] === 0) low++
        if (low === nx) continue
        let high = nx
        while (data[row + high - 1] === 0) high--
        start[0] = Math.min(start[0], low)
        start[1] = Math.min(start[1], y)
        start[2] = Math.min(start[2], z)
        end[0] = Math.max(end[0], high)
        end[1] = Math.max(end[1], y + 1)
        end[2] = Math.max(end[2], z + 1)
      }
    }
  }
  return end[0] > 0 ? { start, end } : undefined
}
