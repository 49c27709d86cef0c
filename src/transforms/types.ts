/**
 * What flows through a pipeline, and what a transform is.
 *
 * Voxels always stay in memory as `volume/` says (x fastest, channels slowest). The order in which a network sees the
 * axes is a word, `axes`, that transforms such as AsChannelFirstd or Transposed rewrite; only the inferer, which copies
 * voxels into a tensor anyway, acts on it. 'CXYZ' is what nibabel and MONAI give (array axes i, j, k); 'CYX' is a
 * picture as rows and columns; 'CZXY' is what AsChannelFirstd makes of a plain 3-D volume.
 */
import type { z } from 'zod'
import type { AxisWeights } from '../volume/axis-weights.js'
import type { AxisMap } from '../volume/resample.js'
import type { Room } from '../volume/room.js'
import type { Grid, NiftiGeometry, Volume } from '../volume/volume.js'
import type { Reduction } from './reduction.js'

export interface SourceGrid extends Grid {
  /** Voxels that a transform may make of the image (`--max-grid-voxels`); absent: as many as by default. */
  readonly mostVoxels?: number | undefined
  /** The memory that work on the image may take (`--max-volume-bytes`); absent: no bound. */
  readonly room?: Room | undefined
  readonly nifti?: NiftiGeometry | undefined
}

/** How voxels go back: labels by the nearest; scores linearly, or in the step's own manner, as MONAI's Invertd does it. */
export type UndoMode = 'nearest' | 'linear' | 'own'

/** Brings a label map (or a score volume) from after a transform to before it. */
export interface UndoStep {
  /** The transform that did it, as the config names it. */
  readonly name: string
  /**
   * 'resize' scaled the same field of view to another number of voxels, 'spacing' to another size of voxels; RestoreLabeld
   * undoes both MONAI's way. 'clicked' is a crop around the clicks of a request: a deepgrow reply names its box.
   */
  readonly kind: 'resize' | 'spacing' | 'crop' | 'clicked' | 'slice' | 'orient' | 'other'
  /** The grid before the transform. */
  readonly before: Grid
  readonly undo: (volume: Volume, mode: UndoMode) => Volume
  /** The same for labels, when it goes axis by axis: lets restore() put several steps together and move voxels once. */
  readonly map?: AxisMap | undefined
  /** Whether `map` holds for scores too (it picks voxels and blends none). */
  readonly exact?: boolean | undefined
  /** Mode `own` when it goes axis by axis: lets scores go back through all steps at once, slab by slab. */
  readonly weights?: (() => AxisWeights | undefined) | undefined
}

/**
 * What the numbers of a field are, as what made it said; never told from the type of their array. Labels are names in the
 * form of numbers: they move by nearest voxel and never blend. Scores (of a network, before an argmax or a threshold) and
 * intensities (of an image) move linearly.
 */
export type Content = 'labels' | 'scores' | 'intensity'

/** A voxel stands for the float32 at `values[voxel - least]`. */
export interface ValueTable {
  readonly least: number
  readonly values: Float32Array
}

export interface ImageField {
  readonly volume: Volume
  /** What the voxels stand for, where they are not their own values (see value-table.ts). */
  readonly valueTable?: ValueTable | undefined
  readonly content: Content
  /** Slowest axis first, as a C-contiguous array: letters of X, Y, Z and C. An axis of length 1 may be absent. */
  readonly axes: string
  /** The grid of the file it came from. */
  readonly source: SourceGrid
  /** What was done to the grid since, newest last. */
  readonly undo: readonly UndoStep[]
  /** The voxels were made in this run and nobody else holds them, so an intensity transform may overwrite them. */
  readonly scratch?: boolean | undefined
}

/** A plain value beside the images: points, guidance, a slice index, anything a client put into `params`. */
export type FieldValue = unknown

export interface Item {
  readonly images: ReadonlyMap<string, ImageField>
  readonly values: ReadonlyMap<string, FieldValue>
  /** The JSON the client gets as `params`. */
  readonly result: Readonly<Record<string, unknown>>
  /** What the user should know of how the result came about, a sentence each; they ride along as `notes` of the params. */
  readonly notes?: readonly string[] | undefined
}

/** Takes an item and gives a new one; never writes into the one it got, except into buffers it made itself. */
export type Transform = (item: Item) => Item | Promise<Item>

/** One file per transform exports one of these; catalog.ts lists them by every name a config may use. */
export interface TransformDefinition<S extends z.ZodType = z.ZodType> {
  /** MONAI's or Clara's names, all spellings. */
  readonly names: readonly string[]
  /** Arguments as the config writes them; unknown keys are refused by the catalog, naming the transform. */
  readonly args: S
  readonly create: (args: z.output<S>) => Transform
  /** What others may rely on, with these arguments; absent: nothing in particular. */
  readonly traits?: ((args: z.output<S>) => Traits) | undefined
}

/** What a transform says of itself to those who plan around it, so that nobody goes by its name. What is absent is not so. */
export interface Traits {
  /** The fields it names are images that the request brings. */
  readonly loads?: boolean
  /** Looks at, names or reorders the axes; every voxel keeps its value and its place in the patient. */
  readonly axesOnly?: boolean
  /** It takes a slice out of a volume: an image of one slice is a volume for it too. */
  readonly slices?: boolean
  /** How many channels it adds to its image; `other` where it changes them, or their place, in another way. */
  readonly channels?: number | 'other'
  /** It uses this many channels of its image and no more. */
  readonly usesChannels?: number
  /** It changes intensities one by one, whatever the others are: what it does to each, in place. */
  readonly eachValue?: ((values: Float32Array) => void) | undefined
  /** Leaves the item as it is. */
  readonly identity?: boolean
  /** Reads what comes from clicks; a session's cache stops before the first transform that does. */
  readonly readsClicks?: boolean
  /** The labels whose clicks it reads by their own names; then a request may also have none. */
  readonly labelClicks?: readonly string[]
  /** Brings its fields back to the grid of the file: labels by nearest voxel anyway, scores like this. */
  readonly restores?: 'nearest' | 'own'
  /** Puts a slice back into the volume it came from; a pipeline of models puts its slices together before it. */
  readonly wholeVolume?: boolean
  /** What it applies to the scores of its first field, one by one or over the channels. */
  readonly activates?: 'sigmoid' | 'softmax' | undefined
  /** How it turns the scores of its first field into labels; the inferer does the same, and sooner. */
  readonly reduces?: Exclude<Reduction, { kind: 'scores' }> | undefined
  /** Gives labels other numbers than those of the channels they came from. */
  readonly renumbers?: boolean
  /** What the config says by using it: that its first field holds labels, or scores; `either`: it takes both as they are. */
  readonly takes?: 'labels' | 'scores' | 'either' | undefined
}
