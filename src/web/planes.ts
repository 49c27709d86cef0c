/**
 * How slices lie on the screen, away from any canvas. Slices are shown as radiologists look at them: the patient's right on
 * the left, the nose of a sagittal slice on the left. A picture is shown as it is stored.
 */
import type { PatientAxis } from './geometry.js'

export type PlaneName = 'axial' | 'coronal' | 'sagittal'

/** A voxel axis along the screen: one pixel of the slice to the right, or down, is `step` voxels on. */
export interface ScreenAxis {
  readonly axis: 0 | 1 | 2
  readonly step: 1 | -1
}

export interface Plane {
  readonly name: PlaneName
  readonly across: 0 | 1 | 2
  readonly right: ScreenAxis
  readonly down: ScreenAxis
  /** Letters for left, right, top and bottom; undefined where nobody knows how the image lies in the patient. */
  readonly edges: readonly [string, string, string, string] | undefined
}

const VIEWS = [
  { name: 'axial', right: 0, down: 1, across: 2, edges: ['R', 'L', 'A', 'P'] },
  { name: 'coronal', right: 0, down: 2, across: 1, edges: ['R', 'L', 'S', 'I'] },
  { name: 'sagittal', right: 1, down: 2, across: 0, edges: ['A', 'P', 'S', 'I'] },
] as const

/** `axes`: the voxel axes along R, A and S. */
export function patientPlanes(axes: readonly PatientAxis[], isKnown: boolean): Plane[] {
  // To the right and down is to the patient's left, back and feet, whichever plane it is.
  const along = (patient: number): ScreenAxis => {
    const { axis, backwards } = axes[patient]!
    return { axis, step: backwards ? 1 : -1 }
  }
  return VIEWS.map(({ name, right, down, across, edges }) => ({
    name,
    across: axes[across]!.axis,
    right: along(right),
    down: along(down),
    edges: isKnown ? edges : undefined,
  }))
}

export const PICTURE_PLANE: Plane = {
  name: 'axial',
  across: 2,
  right: { axis: 0, step: 1 },
  down: { axis: 1, step: 1 },
  edges: undefined,
}

export interface Rect {
  readonly left: number
  readonly top: number
  readonly width: number
  readonly height: number
}

/** Pixels between two cells. */
const GAP = 4
/** A plane gets at least this part of the longest one's edge: a scan of few slices is thin from the side. */
const LEAST_SHARE = 0.15

/** The area for each of up to four things of these sizes in mm, all at one scale: of a few arrangements the one that shows them largest. */
export function arrange(
  area: { readonly width: number; readonly height: number },
  sizes: readonly (readonly [number, number])[],
): Rect[] {
  const longest = Math.max(...sizes.flat())
  const floored = sizes.map(
    ([w, h]) => [Math.max(w, longest * LEAST_SHARE), Math.max(h, longest * LEAST_SHARE)] as const,
  )
  const best = ARRANGEMENTS[sizes.length]!.map((columns) => {
    const widths = columns.map((cells) => Math.max(...cells.map((i) => floored[i]![0])))
    const heights = columns.map((cells) => cells.reduce((sum, i) => sum + floored[i]![1], 0))
    const scale = Math.min(area.width / widths.reduce((a, b) => a + b), area.height / Math.max(...heights))
    return { columns, widths, heights, scale }
  }).reduce((a, b) => (b.scale > a.scale ? b : a))
  const rects: Rect[] = []
  const across = best.widths.reduce((a, b) => a + b)
  const room = area.width - GAP * (best.columns.length - 1)
  let left = 0
  best.columns.forEach((cells, c) => {
    const width = (room * best.widths[c]!) / across
    let top = 0
    for (const i of cells) {
      const height = ((area.height - GAP * (cells.length - 1)) * floored[i]![1]) / best.heights[c]!
      rects[i] = { left, top, width, height }
      top += height + GAP
    }
    left += width + GAP
  })
  return rects
}

/** Columns of cells, by how many there are: axial, coronal, sagittal, 3-D. */
const ARRANGEMENTS: Readonly<Record<number, readonly (readonly (readonly number[])[])[]>> = {
  1: [[[0]]],
  3: [
    [[0], [1], [2]],
    [[0], [1, 2]],
    [[1, 0], [2]],
  ],
  4: [
    [
      [1, 0],
      [2, 3],
    ],
    [[0], [1, 2], [3]],
    [[0], [1], [2], [3]],
  ],
}
