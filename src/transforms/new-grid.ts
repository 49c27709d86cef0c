/** What a transform may make of an image's grid, checked before anything is allocated for it. */
import { AppError } from '../errors.js'
import type { Vec3 } from '../volume/volume.js'
import type { ImageField } from './types.js'

/** Where no setting says otherwise: a whole body at 0.7 mm; 2 GiB as float32. Images that are large themselves may double. */
const MOST_VOXELS = 2 ** 29

/**
 * Rejects TOO_LARGE. A small file whose header gives its voxel sizes in the wrong unit would otherwise be resampled into
 * more memory than any machine has.
 */
export function checkNewGrid(
  { volume, source }: Pick<ImageField, 'volume' | 'source'>,
  size: Vec3,
  name: string,
): void {
  const { size: own, channels } = volume
  const most = Math.max(source.mostVoxels ?? MOST_VOXELS, 2 * own[0] * own[1] * own[2] * channels)
  const voxels = size[0] * size[1] * size[2] * channels
  if (voxels <= most) return
  throw new AppError(
    'TOO_LARGE',
    `${name} would make ${size.join('x')} voxels of the image; at most ${most} are possible`,
    {
      hint: 'check that the header of the image gives its voxel sizes in millimetres; the limit is --max-grid-voxels',
    },
  )
}
