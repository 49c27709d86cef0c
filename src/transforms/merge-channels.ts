import { z } from 'zod'
import { AppError } from '../errors.js'
import { labelArray } from '../volume/label-array.js'
import { makeVolume, voxelCount } from '../volume/volume.js'
import { fieldArgs, integers } from './args.js'
import { eachImage } from './fields.js'
import type { TransformDefinition } from './types.js'

const args = fieldArgs({
  /** Counted from 0; the first of them that is set in a voxel gives it its label. */
  channels: integers,
  values: integers.pipe(z.array(z.int().min(0).max(65_535))),
})

/**
 * Channels of zeros and ones that may overlap, as one label map: each voxel takes the value of the first channel in
 * `channels` that is above zero there, and 0 where none is. The order is the config's, since which class lies over which
 * is known to whoever trained the network: BraTS has the enhancing tumour over the core over the whole.
 */
export const mergeChannels: TransformDefinition<typeof args> = {
  names: ['MergeChannelsd'],
  args,
  traits: () => ({ takes: 'labels', renumbers: true }),
  create: (a) => {
    if (a.channels.length !== a.values.length)
      throw new AppError('BAD_MODEL_CONFIG', 'channels and values must be lists of one length')
    if (new Set(a.channels).size < a.channels.length)
      throw new AppError('BAD_MODEL_CONFIG', 'channels must name each channel once')
    return eachImage(a, (field) => {
      const { volume } = field
      const beyond = a.channels.find((channel) => channel < 0 || channel >= volume.channels)
      if (beyond !== undefined)
        throw new AppError('BAD_MODEL_CONFIG', `channels names ${beyond}, but there are ${volume.channels} channels`)
      const voxels = voxelCount(volume)
      const data = labelArray(voxels, 0, Math.max(0, ...a.values))
      // from the last to the first, so that what comes first is written last
      for (const [i, channel] of [...a.channels.entries()].toReversed()) {
        const value = a.values[i]!
        const from = channel * voxels
        for (let n = 0; n < voxels; n++) if (volume.data[from + n]! > 0) data[n] = value
      }
      return {
        ...field,
        volume: makeVolume(volume.size, volume.affine, data, { nifti: volume.nifti }),
        content: 'labels',
        scratch: true,
      }
    })
  },
}
