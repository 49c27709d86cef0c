/** Recording what was done to a grid, and bringing a label map (or scores) back to the grid of the file. */
import { type AxisWeights, composeWeights, identityWeights, weightsOfMap } from '../volume/axis-weights.js'
import { type AxisMap, composeAxisMaps, gather } from '../volume/resample.js'
import { type Grid, makeVolume, type Volume } from '../volume/volume.js'
import type { Content, ImageField, UndoMode, UndoStep } from './types.js'

/** A field whose grid changed: the new volume, and the way back. */
export function moved(field: ImageField, volume: Volume, step: UndoStep): ImageField {
  return { ...field, volume, undo: [...field.undo, step] }
}

/** The way back of a step that only picks voxels axis by axis; exact or nearest, whatever the mode. */
export function axisStep(name: string, kind: UndoStep['kind'], { size, affine }: Grid, map: AxisMap): UndoStep {
  const undo = (volume: Volume) => gather(volume, map, affine)
  return { name, kind, before: { size, affine }, map, exact: true, undo, weights: () => weightsOfMap(map) }
}

/** The way back of a resampling along the axes: `map` for labels, `linear` for scores, and `own` where that differs. */
export function resizeStep(
  name: string,
  { size, affine }: Grid,
  map: AxisMap,
  linear: (volume: Volume) => Volume,
  own: { readonly undo: (volume: Volume) => Volume; readonly weights: () => AxisWeights },
): UndoStep {
  return {
    name,
    kind: 'resize',
    before: { size, affine },
    map,
    undo: (volume, mode) => {
      if (mode === 'nearest') return gather(volume, map, affine)
      return mode === 'own' ? own.undo(volume) : linear(volume)
    },
    weights: own.weights,
  }
}

/**
 * The field's volume on the grid of its file, with that file's own affine. Runs of axis-wise steps are put together
 * into one table per axis first, so that a label map is moved once however long the chain was.
 */
export function restore(field: ImageField, mode: UndoMode = modeOf(field.content)): ImageField {
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

/** Label maps move by nearest voxel, whatever array holds them; scores and intensities as they came. */
export function modeOf(content: Content): 'nearest' | 'own' {
  return content === 'labels' ? 'nearest' : 'own'
}

/** The way of scores from a field's grid to that of its file, in one table per axis; undefined where a step has none. */
export function wayBack({ volume, undo }: Pick<ImageField, 'volume' | 'undo'>): AxisWeights | undefined {
  let way: AxisWeights | undefined = identityWeights(volume.size)
  for (const step of undo.toReversed()) {
    const next: AxisWeights | undefined = step.weights?.()
    way = way && next && composeWeights(way, next)
  }
  return way
}
