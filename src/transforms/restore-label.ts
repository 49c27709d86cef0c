import { z } from 'zod'
import { AppError } from '../errors.js'
import { type AxisMap, composeAxisMaps, gather } from '../volume/resample.js'
import type { Vec3 } from '../volume/volume.js'
import { describing, fieldArgs } from './args.js'
import { eachImage, requireNamed } from './fields.js'
import { coordKeys } from './guidance.js'
import { nearestMap } from './resize.js'
import type { ImageField, TransformDefinition, UndoStep } from './types.js'

const args = fieldArgs({
  /** The image whose steps are undone; the field knows them itself, and the name has to be right. */
  ref_image: z.string().optional(),
  slice_only: z.boolean().default(false),
  mode: z.union([z.string(), z.array(z.string())]).default('nearest'),
  align_corners: z.union([z.literal(false), z.null(), z.array(z.literal(false).nullable())]).optional(),
  ...coordKeys,
  restore_resizing: z.boolean().default(true),
  restore_cropping: z.boolean().default(true),
  restore_spacing: z.boolean().default(true),
  restore_slicing: z.boolean().default(true),
  /** Of RestoreCroppedLabeld: the layout is known here. */
  ...describing('channel_first'),
})

/**
 * Brings a label map or scores back through everything that was done to `ref_image`, newest first: resizing, cropping,
 * spacing, slicing.
 *
 * Labels always move by nearest voxel, since a blend of two label numbers is a third; `mode` says how scores do. In mode
 * `nearest` resizes are undone the way MONAI does it, with torch's `nearest`: the voxel at floor(index x old / new),
 * which moves a mask by up to half a voxel of the grid it returns to. Scores brought back in mode `bilinear` or `trilinear`
 * and thresholded afterwards stay where they are. `slice_only` and `restore_slicing: false` leave a slice a slice; the
 * writer still puts it into a full volume, since a client gets its own grid back. What is not undone here (the first step
 * that a flag leaves out, and all before it) the writer undoes.
 * Source: monai.apps.deepgrow.transforms.RestoreLabeld.
 */
export const restoreLabel: TransformDefinition<typeof args> = {
  names: [
    'RestoreLabeld',
    'RestoreLabelD',
    'RestoreLabelDict',
    'RestoreLabel',
    // As MONAI called it up to 0.4.
    'RestoreCroppedLabeld',
    'RestoreCroppedLabelD',
    'RestoreCroppedLabelDict',
  ],
  args,
  traits: (a) => ({ takes: 'either', wholeVolume: a.restore_slicing && !a.slice_only }),
  create: (a) => {
    const modes = [a.mode].flat().map(checkMode)
    const undoes = (step: UndoStep): boolean => {
      if (step.kind === 'slice') return a.restore_slicing && !a.slice_only
      if (step.kind === 'crop' || step.kind === 'clicked') return a.restore_cropping
      if (step.kind === 'spacing') return a.restore_spacing
      if (step.kind === 'resize') return a.restore_resizing
      return true
    }
    return eachImage(a, (field, index, item) => {
      requireNamed(item, a.ref_image)
      const stated = modes[index] ?? modes.at(-1)!
      return restoreField(field, undoes, field.content === 'labels' ? 'nearest' : stated)
    })
  },
}

function checkMode(mode: string): 'nearest' | 'linear' {
  if (mode === 'nearest') return 'nearest'
  if (['linear', 'bilinear', 'trilinear'].includes(mode)) return 'linear'
  throw new AppError('BAD_MODEL_CONFIG', `mode must be nearest, linear, bilinear or trilinear, got '${mode}'`)
}

/** Undoes the newest steps for as long as `undoes` says yes, moving the voxels once for all steps that go axis by axis. */
function restoreField(field: ImageField, undoes: (step: UndoStep) => boolean, mode: 'nearest' | 'linear'): ImageField {
  let { volume } = field
  let { size } = volume
  let pending: AxisMap | undefined
  const undo = [...field.undo]
  const flush = (affine: Float64Array): void => {
    if (pending) volume = gather(volume, pending, affine)
    pending = undefined
  }
  for (let step = undo.at(-1); step && undoes(step); step = undo.at(-1)) {
    const resized = step.kind === 'resize' || step.kind === 'spacing'
    const map = resized ? nearestMap(size, step.before.size, 'nearest') : step.map
    if (map && (mode === 'nearest' || step.exact)) pending = pending ? composeAxisMaps(pending, map) : map
    else {
      flush(volume.affine)
      volume = step.undo(volume, mode)
    }
    undo.pop()
    size = step.before.size
    if (undo.length === 0 || !undoes(undo.at(-1)!)) flush(step.before.affine)
  }
  const axes = spatialAxes(field.axes, volume.size)
  return { ...field, volume, axes, undo, scratch: field.scratch || volume !== field.volume }
}

/** The slice axis is back once the volume has one. */
function spatialAxes(axes: string, size: Vec3): string {
  const missing = [...'XYZ'].filter((letter, axis) => !axes.includes(letter) && size[axis]! > 1)
  const channel = axes.startsWith('C') ? 'C' : ''
  return channel + missing.join('') + axes.slice(channel.length)
}
