/** Every transform by every name that a config may use, and building one from a config's entry. */
import type { z } from 'zod'
import { AppError } from '../errors.js'
import { nearestWord } from '../util/nearest-word.js'
import { addClickSignals } from './add-click-signals.js'
import { addExtremePointsChannel } from './add-extreme-points-channel.js'
import { addGuidanceFromPoints } from './add-guidance-from-points.js'
import { addGuidanceSignal } from './add-guidance-signal.js'
import * as channels from './channels.js'
import * as connected from './connected-components.js'
import { cropByExtremePoints } from './crop-by-extreme-points.js'
import * as boxes from './crop-pad.js'
import * as deepedit from './deepedit.js'
import { enforceClicks } from './enforce-clicks.js'
import { boundingBox, extremePointsTransform, fetchExtremePoints } from './extreme-points.js'
import { fetch2dSlice } from './fetch-2d-slice.js'
import { flip, rotate90 } from './flip-rotate.js'
import * as intensity from './intensity.js'
import * as percentile from './intensity-percentiles.js'
import * as items from './items.js'
import * as labels from './labels.js'
import { lambda } from './lambda.js'
import * as loading from './load.js'
import { mergeChannels } from './merge-channels.js'
import { nnunetAxes } from './nnunet/axes.js'
import { nnunetCrop } from './nnunet/crop.js'
import { nnunetNormalize } from './nnunet/normalize.js'
import { nnunetPreviousStage } from './nnunet/previous-stage.js'
import { nnunetResample } from './nnunet/resample.js'
import { orientation } from './orientation.js'
import * as resizing from './resize.js'
import { resizeGuidance } from './resize-guidance.js'
import * as restoring from './restore.js'
import { restoreLabel } from './restore-label.js'
import { resampleToMatch, spacing } from './spacing.js'
import { spatialCropGuidance } from './spatial-crop-guidance.js'
import type { Traits, Transform } from './types.js'

/** A definition whose argument type is forgotten: it is only ever given what its own schema returned. */
interface AnyDefinition {
  readonly names: readonly string[]
  readonly args: z.ZodType
  readonly create: (args: never) => Transform
  readonly traits?: ((args: never) => Traits) | undefined
}

export const DEFINITIONS: readonly AnyDefinition[] = [
  loading.loadImage,
  loading.loadNifti,
  loading.loadMultipleNifti,
  loading.loadPicture,
  channels.convertToChannelsFirst,
  channels.convertToChannelsLast,
  channels.ensureChannelFirst,
  channels.asChannelFirst,
  channels.asChannelLast,
  channels.addChannel,
  channels.squeezeDim,
  channels.transpose,
  channels.concatItems,
  channels.castToType,
  orientation,
  spacing,
  resampleToMatch,
  resizing.resized,
  resizing.zoom,
  resizing.scaleByResolution,
  resizing.scaleBySpacing,
  resizing.scaleByFactor,
  resizing.scaleToShape,
  boxes.spatialPad,
  boxes.divisiblePad,
  boxes.borderPad,
  boxes.centerSpatialCrop,
  boxes.resizeWithPadOrCrop,
  boxes.spatialCrop,
  boxes.cropForeground,
  flip,
  rotate90,
  intensity.scaleIntensityRange,
  intensity.claraScaleIntensityRange,
  intensity.scaleIntensityRangePercentiles,
  intensity.scaleIntensity,
  intensity.normalizeIntensity,
  intensity.normalizeNonzeroIntensities,
  intensity.centerData,
  intensity.shiftIntensity,
  intensity.scaleShift,
  intensity.thresholdIntensity,
  intensity.gaussianSmooth,
  percentile.clipIntensityPercentiles,
  percentile.histogramNormalize,
  percentile.signalFillEmpty,
  items.copyItems,
  items.selectItems,
  items.repeatChannel,
  items.meanEnsemble,
  items.voteEnsemble,
  items.addLabelAsGuidance,
  labels.argmaxAcrossChannels,
  labels.activations,
  labels.asDiscrete,
  labels.applyThreshold,
  labels.labelFilter,
  labels.labelToMask,
  labels.mapLabelValue,
  labels.splitBasedOnLabel,
  labels.splitAcrossChannels,
  mergeChannels,
  lambda,
  connected.keepLargestConnectedComponent,
  connected.keepLargestCC,
  connected.fillHolesTransform,
  connected.removeSmallObjects,
  fetchExtremePoints,
  extremePointsTransform,
  boundingBox,
  restoring.invert,
  restoring.restored,
  restoring.restoreOriginalShape,
  restoring.copyProperties,
  addClickSignals,
  addExtremePointsChannel,
  addGuidanceFromPoints,
  deepedit.addGuidanceFromPointsDeepEdit,
  deepedit.orientationGuidanceDeepEdit,
  deepedit.resizeGuidanceDeepEdit,
  deepedit.addGuidanceSignalDeepEdit,
  addGuidanceSignal,
  cropByExtremePoints,
  enforceClicks,
  fetch2dSlice,
  resizeGuidance,
  restoreLabel,
  spatialCropGuidance,
  nnunetAxes,
  nnunetCrop,
  nnunetNormalize,
  nnunetResample,
  nnunetPreviousStage,
]

const BY_NAME = new Map(
  DEFINITIONS.flatMap((definition) => definition.names.map((name) => [name, definition] as const)),
)

export const TRANSFORM_NAMES: readonly string[] = [...BY_NAME.keys()].sort()

export interface BuiltTransform {
  /** As the config wrote it, without its class path. */
  readonly name: string
  readonly definition: AnyDefinition
  /** Arguments after parsing, defaults filled in. */
  readonly args: unknown
  readonly apply: Transform
  /** The fields it works on, when it names them the usual way. */
  readonly keys: readonly string[]
  readonly traits: Traits
  /** Where it stands, as messages say it; absent: in no config. */
  readonly place?: Place | undefined
}

/** Where a transform stands in a config, and where its name and its arguments do. */
export interface Place {
  readonly whole: string
  readonly name: string
  readonly args: string
  /** Where another file said it, from which the config was made. */
  readonly from?: string | undefined
}

/** Throws BAD_MODEL_CONFIG naming the transform, its place, and the key that is unknown or wrong. */
export function buildTransform(
  {
    name,
    args,
    ownClass,
  }: {
    readonly name: string
    readonly args: Readonly<Record<string, unknown>>
    readonly ownClass?: string | undefined
  },
  place?: Place,
): BuiltTransform {
  const short = name.split('.').at(-1)!
  const definition = BY_NAME.get(short)
  if (!definition || ownClass !== undefined) throw placed(unknownTransform(short, ownClass), place, place?.name)
  const parsed = definition.args.safeParse(normalized(args))
  if (!parsed.success)
    throw placed(badArguments(short, definition, parsed.error), place, `${place?.args}${keyOf(parsed.error)}`)
  let apply: Transform
  try {
    apply = named(short, () => definition.create(parsed.data as never))
  } catch (error) {
    throw error instanceof AppError ? placed(error, place, place?.args) : error
  }
  return {
    name: short,
    definition,
    args: parsed.data,
    apply: (item) => named(short, () => apply(item)),
    keys: keysOf(parsed.data),
    traits: definition.traits?.(parsed.data as never) ?? {},
    place,
  }
}

/** The error with the path of what is wrong in front. */
export function placed(error: AppError, place: Place | undefined, path = place?.whole): AppError {
  if (place === undefined) return error
  const { code, message, hint, cause } = error
  const said = place.from === undefined ? `${path}: ${message}` : `${path} (${place.from}): ${message}`
  return new AppError(code, said, { cause, ...(hint === undefined ? {} : { hint }) })
}

/** The `index`-th of a config's `pre_transforms` or `post_transforms`. */
export function placeIn(list: string, index: number, from: string | undefined): Place {
  const whole = `config.${list}[${index}]`
  return { whole, name: `${whole}.name`, args: `${whole}.args`, from }
}

function keyOf({ issues: [issue] }: z.ZodError): string {
  const path = issue?.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]!] : (issue?.path ?? [])
  return path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step).slice(0, 80)}`)).join('')
}

function unknownTransform(name: string, ownClass: string | undefined): AppError {
  const usual = DEFINITIONS.map(({ names }) => names[0]!)
  const near = BY_NAME.has(name) ? name : nearestWord(name, usual)
  if (ownClass !== undefined) {
    const nearest = near === undefined ? '' : `; the nearest transform is '${near}'`
    return new AppError(
      'BAD_MODEL_CONFIG',
      `transform '${ownClass.slice(0, 160)}' is a Python class of this config's own, and Python is not run here${nearest}`,
      { hint: `say it with known transforms: ${usual.join(', ')}` },
    )
  }
  const guess = near === undefined ? '' : ` (did you mean '${near}'?)`
  return new AppError('BAD_MODEL_CONFIG', `unknown transform '${name.slice(0, 80)}'${guess}`, {
    hint: `known transforms: ${usual.join(', ')}`,
  })
}

function badArguments(name: string, definition: AnyDefinition, error: z.ZodError): AppError {
  const said = error.issues.slice(0, 3).map((issue) => {
    if (issue.code === 'unrecognized_keys') return `unknown argument '${issue.keys.join("', '")}'`
    const where = issue.path.join('.')
    return where ? `'${where}': ${issue.message}` : issue.message
  })
  const known = Object.keys(shapeOf(definition.args)).join(', ')
  return new AppError('BAD_MODEL_CONFIG', `transform '${name}': ${said.join('; ')}`, {
    hint: `its arguments are ${known}`,
  })
}

/** The arguments that a schema knows, also where it makes something else of them. */
export function shapeOf(args: z.ZodType): Readonly<Record<string, z.ZodType>> {
  if ('shape' in args) return args.shape as Record<string, z.ZodType>
  return 'in' in args ? shapeOf(args.in as z.ZodType) : {}
}

/** Errors of a transform say which one it was. */
function named<T>(name: string, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError(error.code, `transform '${name}': ${error.message}`, {
      cause: error,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    })
  }
}

const WORDS: Readonly<Record<string, boolean>> = { true: true, false: false }

/** `fields` and `field` mean `keys`; the words true and false mean the values. Null counts as absent where it is a default. */
function normalized(args: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(args)) {
    const word = typeof value === 'string' ? WORDS[value.toLowerCase()] : undefined
    // said twice, the second stays an unknown argument
    const isKeys = (key === 'fields' || key === 'field') && !('keys' in out) && !('keys' in args)
    out[isKeys ? 'keys' : key] = word ?? value
  }
  return out
}

function keysOf(args: unknown): readonly string[] {
  if (typeof args !== 'object' || args === null || !('keys' in args) || !Array.isArray(args.keys)) return []
  return args.keys.filter((key): key is string => typeof key === 'string')
}
