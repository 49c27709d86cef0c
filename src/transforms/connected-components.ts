import { z } from 'zod'
import { AppError } from '../errors.js'
import { type Components, type Connectivity, components, fillHoles, labelBoxes } from '../geometry/components.js'
import { emptyLike } from '../volume/crop.js'
import { spacingOf, type Volume, type VoxelArray } from '../volume/volume.js'
import { describing, fieldArgs, integer, integers, number, numbers } from './args.js'
import { eachImage, perMemoryAxis } from './fields.js'
import type { ImageField, TransformDefinition } from './types.js'

const connectivityArg = integer
  .pipe(z.union([z.literal(1), z.literal(2), z.literal(3)]))
  .nullable()
  .optional()

const largestArgs = fieldArgs({
  applied_labels: integers.nullable().optional(),
  is_onehot: z.boolean().nullable().optional(),
  independent: z.boolean().default(true),
  connectivity: connectivityArg,
  num_components: integer.default(1),
})

/**
 * MONAI's KeepLargestConnectedComponentd: of each label (or of all together when not `independent`) the largest
 * components stay. Corners connect unless `connectivity` says otherwise.
 */
export const keepLargestConnectedComponent: TransformDefinition<typeof largestArgs> = {
  names: [
    ...['KeepLargestConnectedComponentd', 'KeepLargestConnectedComponentD'],
    ...['KeepLargestConnectedComponentDict', 'KeepLargestConnectedComponent'],
  ],
  args: largestArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) =>
    eachImage(a, (field) =>
      // one-hot channels are one label map here, with the numbers of the channels for labels
      keepLargest(a.is_onehot === false ? oneChannel(field) : field, {
        labels: a.applied_labels ?? undefined,
        independent: a.independent,
        connectivity: a.connectivity ?? 3,
        keep: a.num_components,
      }),
    ),
}

function oneChannel(field: ImageField): ImageField {
  if (field.volume.channels === 1) return field
  throw new AppError('BAD_MODEL_CONFIG', `is_onehot is false, but there are ${field.volume.channels} channels`)
}

const claraLargestArgs = fieldArgs({
  connectivity: connectivityArg,
  applied_labels: integers.nullable().optional(),
  ...describing('has_channel'),
})

/** Clara's KeepLargestCC and AIAA's LargestCCd: the same with faces only, foreground as one. */
export const keepLargestCC: TransformDefinition<typeof claraLargestArgs> = {
  names: ['KeepLargestCC', 'LargestCCd', 'LargestCCD', 'LargestCC'],
  args: claraLargestArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) =>
    eachImage(a, (field) =>
      keepLargest(field, {
        labels: a.applied_labels ?? undefined,
        independent: false,
        connectivity: a.connectivity ?? 1,
        keep: 1,
      }),
    ),
}

interface Largest {
  readonly labels: readonly number[] | undefined
  readonly independent: boolean
  readonly connectivity: Connectivity
  readonly keep: number
}

function keepLargest(field: ImageField, { labels, independent, connectivity, keep }: Largest): ImageField {
  return perChannel(field, (data, volume, channel) => {
    const oneHot = volume.channels > 1
    if (oneHot && labels && !labels.includes(channel)) return
    const applies = (label: number): boolean => oneHot || !labels || labels.includes(label)
    const values = independent ? data : Uint8Array.from(data, (label) => (label !== 0 && applies(label) ? 1 : 0))
    const found = components(values, volume.size, connectivity)
    const kept = largestOf(found, keep)
    for (let i = 0; i < data.length; i++) {
      if (data[i] !== 0 && applies(data[i]!) && !kept[found.ids[i]!]) data[i] = 0
    }
  })
}

/** For each component, whether it is among the `keep` largest of its label. */
function largestOf({ sizes, labels, count }: Components, keep: number): Uint8Array {
  const kept = new Uint8Array(count + 1)
  const byLabel = new Map<number, number[]>()
  for (let id = 1; id <= count; id++) {
    const ids = byLabel.get(labels[id]!)
    if (ids) ids.push(id)
    else byLabel.set(labels[id]!, [id])
  }
  for (const ids of byLabel.values()) {
    ids.sort((a, b) => sizes[b]! - sizes[a]! || a - b)
    for (const id of ids.slice(0, keep)) kept[id] = 1
  }
  return kept
}

const holesArgs = fieldArgs({ applied_labels: integers.nullable().optional(), connectivity: connectivityArg })

/** MONAI's FillHolesd: what a label encloses becomes that label. */
export const fillHolesTransform: TransformDefinition<typeof holesArgs> = {
  names: ['FillHolesd', 'FillHolesD', 'FillHolesDict', 'FillHoles'],
  args: holesArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) =>
    eachImage(a, (field) =>
      perChannel(field, (data, volume, channel) => {
        const oneHot = volume.channels > 1
        const wanted = a.applied_labels?.filter((label) => label !== 0)
        if (oneHot && wanted && !wanted.includes(channel)) return
        const found = labelBoxes(data, volume.size)
        const labels = oneHot ? [...found.keys()] : (wanted ?? [...found.keys()].sort((p, q) => p - q))
        for (const label of labels) {
          const box = labelBoxes(data, volume.size).get(label)
          if (box) fillHoles(data, volume.size, label, box, a.connectivity ?? 3)
        }
      }),
    ),
}

const smallArgs = fieldArgs({
  min_size: number.default(64),
  connectivity: integer.pipe(z.union([z.literal(1), z.literal(2), z.literal(3)])).default(1),
  independent_channels: z.boolean().default(true),
  by_measure: z.boolean().default(false),
  /** Voxel edges in mm for `by_measure`; the image's own by default. */
  pixdim: numbers.nullable().optional(),
})

/**
 * MONAI's RemoveSmallObjectsd: components of fewer than `min_size` voxels (mm3 when `by_measure`) become background.
 * Each label's components count for themselves unless `independent_channels` is false.
 */
export const removeSmallObjects: TransformDefinition<typeof smallArgs> = {
  names: ['RemoveSmallObjectsd', 'RemoveSmallObjectsD', 'RemoveSmallObjectsDict', 'RemoveSmallObjects'],
  args: smallArgs,
  traits: () => ({ takes: 'labels' }),
  create: (a) => {
    if (a.pixdim && !a.by_measure) throw new AppError('BAD_MODEL_CONFIG', 'pixdim needs by_measure true')
    return eachImage(a, (field) => {
      const [sx, sy, sz] = perMemoryAxis(field, a.pixdim ?? [], spacingOf(field.volume) as [number, number, number])
      const least = a.by_measure ? Math.ceil(a.min_size / (sx * sy * sz)) : a.min_size
      return perChannel(field, (data, volume) => {
        const values = a.independent_channels ? data : Uint8Array.from(data, (label) => (label !== 0 ? 1 : 0))
        const { ids, sizes } = components(values, volume.size, a.connectivity)
        for (let i = 0; i < data.length; i++) if (ids[i] !== 0 && sizes[ids[i]!]! < least) data[i] = 0
      })
    })
  },
}

/** Lets `change` write into each channel of a copy (or of the field's own voxels, when nobody else holds them). */
function perChannel(
  field: ImageField,
  change: (data: VoxelArray, volume: Volume, channel: number) => void,
): ImageField {
  const { volume } = field
  let data = volume.data
  if (!field.scratch) {
    data = emptyLike(volume.data, volume.data.length)
    data.set(volume.data)
  }
  const n = data.length / volume.channels
  for (let c = 0; c < volume.channels; c++) change(data.subarray(c * n, (c + 1) * n) as VoxelArray, volume, c)
  return { ...field, volume: { ...volume, data }, scratch: true }
}
