/** Tiny volumes a person can check by hand, in every axis order, and files of them. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ReadLimits } from '../../src/formats/format.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { multiply4 } from '../../src/volume/affine.js'
import { makeVolume, type Vec3, type Volume, type VoxelArray } from '../../src/volume/volume.js'

export const roomyLimits: ReadLimits = { maxVolumeBytes: 2 ** 31, maxVoxels: 2 ** 30 }

/** A folder that is gone when the test's scope ends: `await using folder = await tempFolder()`. */
export async function tempFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'aidant-test-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Row-major affine from spacing and the mm of voxel 0, 0, 0: axes along R, A, S. */
export function scaleAffine([dx, dy, dz]: Vec3, [x, y, z]: Vec3 = [0, 0, 0]): Float64Array {
  return Float64Array.of(dx, 0, 0, x, 0, dy, 0, y, 0, 0, dz, z, 0, 0, 0, 1)
}

/** A volume whose voxel i is value(i), x fastest. */
export function volumeOf(
  size: Vec3,
  {
    value = (i: number) => i,
    affine = scaleAffine([1, 1, 1]),
    channels = 1,
    make = (n: number): VoxelArray => new Int16Array(n),
  } = {},
): Volume {
  const data = make(size[0] * size[1] * size[2] * channels)
  for (let i = 0; i < data.length; i++) data[i] = value(i)
  return makeVolume(size, affine, data, { channels })
}

export interface AxisOrder {
  /** Three letters, such as 'LPI': where the new axes run to, when the volume given was RAS. */
  readonly codes: string
  /** New axis i is old axis perm[i]. */
  readonly perm: Vec3
  /** Whether new axis i runs against the old one. */
  readonly flip: readonly [boolean, boolean, boolean]
}

const ENDS = ['RL', 'AP', 'SI'] as const
const PERMUTATIONS: readonly Vec3[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
]

/** All 6 x 8 ways to lay the same anatomy out in a file. */
export const axisOrders: readonly AxisOrder[] = PERMUTATIONS.flatMap((perm) =>
  Array.from({ length: 8 }, (_, bits): AxisOrder => {
    const flip = [(bits & 1) !== 0, (bits & 2) !== 0, (bits & 4) !== 0] as const
    return { perm, flip, codes: perm.map((axis, i) => ENDS[axis]![flip[i] ? 1 : 0]).join('') }
  }),
)

/** The same anatomy with its voxels stored in another axis order. Written with getters and setters, to be an oracle. */
export function inAxisOrder(volume: Volume, { perm, flip }: AxisOrder): Volume {
  const size = perm.map((axis) => volume.size[axis]) as unknown as Vec3
  const toOld = new Float64Array(16)
  toOld[15] = 1
  for (let i = 0; i < 3; i++) {
    toOld[perm[i]! * 4 + i] = flip[i] ? -1 : 1
    if (flip[i]) toOld[perm[i]! * 4 + 3] = size[i]! - 1
  }
  const data = volume.data.slice()
  const [ox, oy] = volume.size
  let at = 0
  for (let c = 0; c < volume.channels; c++) {
    for (let z = 0; z < size[2]; z++) {
      for (let y = 0; y < size[1]; y++) {
        for (let x = 0; x < size[0]; x++) {
          const index = [x, y, z].map((n, i) => (flip[i] ? size[i]! - 1 - n : n))
          const old = [0, 0, 0]
          for (let i = 0; i < 3; i++) old[perm[i]!] = index[i]!
          data[at++] = volume.data[old[0]! + ox * (old[1]! + oy * (old[2]! + volume.size[2] * c))]!
        }
      }
    }
  }
  return makeVolume(size, multiply4(volume.affine, toOld), data, { channels: volume.channels })
}

/** Writes a volume as NIfTI into `folder` and gives the path. */
export async function niftiFile(folder: string, volume: Volume, name = 'image.nii.gz'): Promise<string> {
  const path = join(folder, name)
  await writeVolume(volume, path, { extension: name.endsWith('.gz') ? '.nii.gz' : '.nii', kind: 'intensity' })
  return path
}

/** Slice `z` of a label map, as a mask of one label. */
export function labelSlice({ size, affine, data }: Volume, z: number, label: number): Volume {
  const area = size[0] * size[1]
  const mask = Uint8Array.from(data.subarray(z * area, (z + 1) * area), (value) => (value === label ? 1 : 0))
  return makeVolume([size[0], size[1], 1], affine, mask)
}
