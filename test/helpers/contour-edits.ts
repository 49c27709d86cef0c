/** Edits as a user makes them: a contour that is wrong in one place, and a vertex dragged roughly to where it belongs. */
import type { PolygonEdit } from '../../src/geometry/fix-polygon.js'
import { slicePolygons } from '../../src/geometry/mask-to-polygon.js'
import { normalAt, type Ring } from '../../src/geometry/ring.js'
import type { Volume } from '../../src/volume/volume.js'
import { xorshift32 } from './random-masks.js'
import { labelSlice } from './volumes.js'

export interface Scan {
  readonly image: Volume
  readonly labels: Volume
  /** Organs whose border a CT shows. */
  readonly organs: readonly number[]
}

export interface Edit {
  readonly image: Volume
  /** Polygons of every slice; only the edited one has any. */
  readonly slices: readonly (readonly Ring[])[]
  readonly edit: PolygonEdit
  /** Every border point of the reference label. */
  readonly reference: Int32Array
}

/**
 * `count` edits on random organs, slices and vertices. The contour has every (more + 1)-th point of the reference, of which
 * `bump` to each side of the dragged one lean out or in with it (0: it alone is wrong), by 3 to 8 pixels. The user aims at
 * the reference and misses by up to a pixel in each direction; 1 to 4 neighbours follow.
 */
export function sampleEdits(
  scans: readonly Scan[],
  { count, seed, more, bump }: { count: number; seed: number; more: number; bump: boolean },
): Edit[] {
  const below = xorshift32(seed)
  const edits: Edit[] = []
  while (edits.length < count) {
    const { image, labels, organs } = scans[below(scans.length)]!
    const label = organs[below(organs.length)]!
    const slice = below(labels.size[2])
    const mask = labelSlice(labels, slice, label)
    const whole = slicePolygons(mask, 0, { morePoints: 0, rowAxis: 'x' })
    const polygons = slicePolygons(mask, 0, { morePoints: more, rowAxis: 'x' })
    const polygon = polygons.reduce((best, ring, i) => (ring.length > polygons[best]!.length ? i : best), 0)
    const right = Float64Array.from(polygons[polygon] ?? [])
    const n = right.length / 2
    if (n < 8) continue
    const vertex = below(n)
    const lean = (below(2) === 0 ? -1 : 1) * (3 + below(6))
    const width = bump ? 1 + below(4) : 0
    const frame = [image.size[1], image.size[0]] as const
    const wrong = bent(right, vertex, lean, width, frame)
    const aim = [right[2 * vertex]! + below(3) - 1, right[2 * vertex + 1]! + below(3) - 1] as const
    const offset = [aim[0] - wrong[2 * vertex]!, aim[1] - wrong[2 * vertex + 1]!] as const
    const isOff = aim[0] < 0 || aim[1] < 0 || aim[0] >= frame[0] || aim[1] >= frame[1]
    if (isOff || (offset[0] === 0 && offset[1] === 0)) continue
    const slices: Ring[][] = Array.from({ length: labels.size[2] }, () => [])
    slices[slice] = polygons.map((ring, i) => (i === polygon ? wrong : Float64Array.from(ring)))
    const edit = { slice, polygon, vertex, offset, neighbours: 1 + below(4), sliceNeighbours: 0 }
    edits.push({ image, slices, edit, reference: whole[polygon]! })
  }
  return edits
}

/** The ring with `vertex` pushed `lean` pixels along its normal, and `width` neighbours to each side less and less. */
function bent(ring: Ring, vertex: number, lean: number, width: number, frame: readonly [number, number]): Ring {
  const n = ring.length / 2
  const normal = normalAt(ring, vertex)
  const wrong = ring.slice()
  for (let k = -width; k <= width; k++) {
    const i = (vertex + k + n) % n
    const share = lean * (1 - Math.abs(k) / (width + 1))
    for (const axis of [0, 1] as const) {
      const place = Math.round(ring[2 * i + axis]! + share * normal[axis])
      wrong[2 * i + axis] = Math.min(frame[axis] - 1, Math.max(0, place))
    }
  }
  return wrong
}

/** Mean distance in pixels from a contour, sampled about every pixel, to the nearest border point of the reference. */
export function boundaryDistance(ring: Ring, reference: Int32Array): number {
  let sum = 0
  let count = 0
  for (let i = 0; i < ring.length; i += 2) {
    const j = (i + 2) % ring.length
    const samples = Math.max(1, Math.ceil(Math.hypot(ring[j]! - ring[i]!, ring[j + 1]! - ring[i + 1]!)))
    for (let s = 0; s < samples; s++) {
      const column = ring[i]! + ((ring[j]! - ring[i]!) * s) / samples
      const row = ring[i + 1]! + ((ring[j + 1]! - ring[i + 1]!) * s) / samples
      let least = Infinity
      for (let k = 0; k < reference.length; k += 2) {
        least = Math.min(least, (reference[k]! - column) ** 2 + (reference[k + 1]! - row) ** 2)
      }
      sum += Math.sqrt(least)
      count++
    }
  }
  return sum / count
}
