/** What a deepgrow reply says beside its label map. */
import type { ImageField } from '../transforms/types.js'
import { indexToIndex, transformPoint } from '../volume/affine.js'
import type { Grid, Vec3 } from '../volume/volume.js'

/**
 * The box of the posted image that a 3-D model looked at, as `[[x0, x1], [y0, y1], [z0, z1]]` with exclusive ends: 3D
 * Slicer replaces the current segment inside it and leaves the rest alone. Undefined when the model saw the whole image
 * or a single slice.
 */
export function cropOf({ undo, volume, source }: ImageField): [number, number][] | undefined {
  if (undo.some(({ kind }) => kind === 'slice')) return undefined
  const at = undo.findIndex(({ kind }) => kind === 'clicked')
  if (at < 0) return undefined
  const box: Grid = undo[at + 1]?.before ?? volume
  const toSource = indexToIndex(box, source)
  // Voxels reach half a voxel to each side of their centres.
  const first = transformPoint(toSource, [-0.5, -0.5, -0.5])
  const last = transformPoint(toSource, box.size.map((n) => n - 0.5) as unknown as Vec3)
  return ([0, 1, 2] as const).map((axis): [number, number] => {
    const [low, high] = [Math.min(first[axis], last[axis]) + 0.5, Math.max(first[axis], last[axis]) + 0.5]
    return [Math.max(0, Math.round(low)), Math.min(source.size[axis], Math.round(high))]
  })
}
