/**
 * What a person works on: the segments, their voxels and their clicks, with undo over everything. A change is one step: the
 * new document, and the voxels of a box. Steps keep what they replaced; the oldest go when they hold too much.
 */
import { type Box, boxSize, type Vec3 } from './geometry.js'
import { LabelMap } from './label-map.js'

export interface Segment {
  /** Its value in the label map, 1 to 255. */
  readonly id: number
  readonly name: string
  /** #rrggbb */
  readonly color: string
  readonly visible: boolean
  /** The model that drew it first. */
  readonly model?: string
}

export interface Clicks {
  /** The model they were made for; clicks for another model start anew. */
  readonly model: string
  readonly foreground: readonly Vec3[]
  readonly background: readonly Vec3[]
}

/** Undoable, apart from the voxels. */
export interface Doc {
  readonly segments: readonly Segment[]
  /** The segment that tools work on. */
  readonly active: number | undefined
  readonly clicks: Readonly<Record<number, Clicks>>
  /** Extreme points so far, fewer than six. */
  readonly extremes: readonly Vec3[]
}

export const EMPTY: Doc = { segments: [], active: undefined, clicks: {}, extremes: [] }

export interface Patch {
  readonly box: Box
  readonly labels: Uint8Array<ArrayBuffer>
}

interface Step {
  readonly name: string
  readonly doc: Doc
  readonly patch: Patch | undefined
}

/** Voxels of what undo may hold, in bytes. */
const MOST_HISTORY = 256 * 1024 * 1024

/** `box`: where voxels changed. */
export type Listener = (box: Box | undefined) => void

export class Store {
  #doc = EMPTY
  #labels = new LabelMap([1, 1, 1])
  #past: Step[] = []
  #future: Step[] = []
  readonly #listeners = new Set<Listener>()

  get doc(): Doc {
    return this.#doc
  }

  get labels(): LabelMap {
    return this.#labels
  }

  /** The names of the steps that undo and redo would take. */
  get undoable(): string | undefined {
    return this.#past.at(-1)?.name
  }

  get redoable(): string | undefined {
    return this.#future.at(-1)?.name
  }

  get active(): Segment | undefined {
    return this.#doc.segments.find(({ id }) => id === this.#doc.active)
  }

  subscribe(listener: Listener): void {
    this.#listeners.add(listener)
  }

  /** Another scan, or one that is back: nothing to undo. Told with the scan, not to those who listen for changes. */
  reset(labels: LabelMap, doc = EMPTY): void {
    this.#labels = labels
    this.#doc = doc
    this.#past = []
    this.#future = []
  }

  /** One step. `patch` may have been written already by a tool that draws as it goes; `before` is then what was there. */
  change(name: string, doc: Partial<Doc>, patch?: Patch, before?: Uint8Array<ArrayBuffer>): void {
    const replaced = patch && { box: patch.box, labels: before ?? this.#labels.read(patch.box) }
    this.#past.push({ name, doc: this.#doc, patch: replaced })
    this.#future = []
    this.#forget()
    this.#doc = { ...this.#doc, ...doc }
    if (patch) this.#labels.write(patch.box, patch.labels)
    this.#tell(patch?.box)
  }

  /** What is not worth a step: which segment is active. */
  select(active: number | undefined): void {
    if (active === this.#doc.active) return
    this.#doc = { ...this.#doc, active }
    this.#tell(undefined)
  }

  undo(): string | undefined {
    return this.#swap(this.#past, this.#future)
  }

  redo(): string | undefined {
    return this.#swap(this.#future, this.#past)
  }

  /** The smallest free label, or undefined when all 255 are taken. */
  freeLabel(): number | undefined {
    const taken = new Set(this.#doc.segments.map(({ id }) => id))
    for (let id = 1; id < 256; id++) if (!taken.has(id)) return id
    return undefined
  }

  #swap(from: Step[], to: Step[]): string | undefined {
    const step = from.pop()
    if (!step) return undefined
    const { patch } = step
    to.push({
      name: step.name,
      doc: this.#doc,
      patch: patch && { box: patch.box, labels: this.#labels.read(patch.box) },
    })
    this.#doc = step.doc
    if (patch) this.#labels.write(patch.box, patch.labels)
    this.#tell(patch?.box)
    return step.name
  }

  #forget(): void {
    const bytesOf = ({ patch }: Step) => (patch ? boxSize(patch.box).reduce((a, b) => a * b) : 0)
    let bytes = this.#past.reduce((sum, step) => sum + bytesOf(step), 0)
    while (bytes > MOST_HISTORY && this.#past.length > 1) bytes -= bytesOf(this.#past.shift()!)
  }

  #tell(box: Box | undefined): void {
    for (const listener of this.#listeners) listener(box)
  }
}

/** Colours that are told apart on grey, light and dark, also by most people who see fewer colours. */
const PALETTE = [
  '#e6550d',
  '#3182bd',
  '#31a354',
  '#c51b8a',
  '#f1c40f',
  '#17becf',
  '#9467bd',
  '#a1d99b',
  '#fb9a99',
  '#b15928',
]

export function colorFor(id: number): string {
  if (id <= PALETTE.length) return PALETTE[id - 1]!
  // Steps of the golden angle never meet the same hue again.
  const hue = (id * 137.508) % 360
  return hex(hue, 0.6, 0.55)
}

function hex(hue: number, saturation: number, lightness: number): string {
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12
    const value = lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1))
    return Math.round(255 * value)
      .toString(16)
      .padStart(2, '0')
  }
  return `#${channel(0)}${channel(8)}${channel(4)}`
}

export function rgbOf(color: string): [number, number, number] {
  return [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16)) as [number, number, number]
}
