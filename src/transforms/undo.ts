/** Recording what was done to a grid, and bringing a label map (or scores) back to the grid of the file. */
import { type AxisMap, composeAxisMaps, gather } from '../volume/resample.js'
import { type Grid, makeVolume, type Volume } from '../volume/volume.js'
import type { Content, ImageField, UndoStep } from './types.js'

/** A field whose grid changed: the new volume, and the way back. */
export function moved(field: ImageField, volume: Volume, step: UndoStep): ImageField {
  return { ...field, volume, undo: [...field.undo, step] }
}

/** The way back of a step that only picks voxels axis by axis; exact or nearest, whatever the mode. */
export function axisStep(name: string, kind: UndoStep['kind'], { size, affine }: Grid, map: AxisMap): UndoStep {
  return { name, kind, before: { size, affine }, map, exact: true, undo: (volume) => gather(volume, map, affine) }
}

/** The way back of a resampling along the axes: `map` for labels, `linear` for scores. */
export function resizeStep(
  name: string,
  { size, affine }: Grid,
  map: AxisMap,
  linear: (volume: Volume) => Volume,
): UndoStep {
  return {
    name,
    kind: 'resize',
    before: { size, affine },
    map,
    undo: (volume, mode) => (mode === 'nearest' ? gather(volume, map, affine) : linear(volume)),
  }
}

/**
 * The field's volume on the grid of its file, with that file's own affine. Runs of axis-wise steps are put together
 * into one table per axis first, so that a label map is moved once however long the chain was.
 */
export function restore(field: ImageField, mode: 'nearest' | 'linear' = modeOf(field.content)): ImageField {
  let volume = field.volume
  let pending: AxisMap | undefined
  const flush = (): void => {
    if (pending) volume = gather(volume, pending, volume.affine)
    pending = undefined
  }
  for (const step of field.undo.toReversed()) {
    if (step.map && (mode === 'nearest' || step.exact)) {
      pending = pending ? composeAxisMaps(pending, step.map) : step.map
    } else {
      flush()
      volume = step.undo(volume, mode)
    }
  }
  flush()
  const { size, affine, nifti } = field.source
  return { ...field, volume: makeVolume(size, affine, volume.data, { channels: volume.channels, nifti }), undo: [] }
}

/** Label maps move by nearest voxel, whatever array holds them; scores and intensities move linearly. */
export function modeOf(content: Content): 'nearest' | 'linear' {
  return content === 'labels' ? 'nearest' : 'linear'
}
