/**
 * Moving voxels from one grid to another: axis-wise gathers (orientation, crop, pad, nearest resizing), separable
 * linear and area resampling, and the general affine case. Every loop is flat; tables are made once per axis.
 */
import { roundHalfEven } from './affine.js'
import { asPlainWidth } from './blocks.js'
import { emptyLike } from './crop.js'
import type { Vec3, Volume, VoxelArray } from './volume.js'
import { makeVolume } from './volume.js'

/**
 * A target grid read from a source grid axis by axis: along target axis t, voxel i takes source axis `from[t]` at
 * `index[t][i]`; -1 means outside the source. Reorientation, crops, pads and nearest resizing are all of this form, and
 * two of them in a row are again one.
 */
export interface AxisMap {
  readonly from: readonly [0 | 1 | 2, 0 | 1 | 2, 0 | 1 | 2]
  readonly index: readonly [Int32Array, Int32Array, Int32Array]
}

/** Between two neighbouring source voxels on one axis: `low` and `high`, and the share of `high`. */
export interface LinearTable {
  readonly low: Int32Array
  readonly high: Int32Array
  readonly weight: Float64Array
}
export type LinearTables = readonly [LinearTable, LinearTable, LinearTable]

const TILE = 32

export function axisMapSize({ index }: AxisMap): [number, number, number] {
  return [index[0].length, index[1].length, index[2].length]
}

/** `second` reads what `first` made: the map that does both at once. */
export function composeAxisMaps(first: AxisMap, second: AxisMap): AxisMap {
  const from = second.from.map((axis) => first.from[axis]) as unknown as AxisMap['from']
  const index = second.index.map((table, t) => {
    const inner = first.index[second.from[t]!]!
    return table.map((i) => (i < 0 ? -1 : inner[i]!))
  }) as unknown as AxisMap['index']
  return { from, index }
}

/** The array itself, or its values as float32 where its type has no `value`: -1000 is no 8 bits, 0.5 no whole number. */
function holding(data: VoxelArray, value: number): VoxelArray {
  const one = data.slice(0, 1)
  one[0] = value
  return data instanceof Float32Array || one[0] === value ? data : Float32Array.from(data)
}

/** Copies voxels through the map; those outside the source become `fill`, 0 if not told, in float32 where the type has no such value. */
export function gather<T extends VoxelArray>(
  source: Pick<Volume<T>, 'size' | 'channels' | 'data'>,
  map: AxisMap,
  affine: Float64Array,
): Volume<T>
export function gather(
  source: Pick<Volume, 'size' | 'channels' | 'data'>,
  map: AxisMap,
  affine: Float64Array,
  fill: number,
): Volume
export function gather(
  source: Pick<Volume, 'size' | 'channels' | 'data'>,
  map: AxisMap,
  affine: Float64Array,
  fill = 0,
): Volume {
  const size = axisMapSize(map)
  const [nx, ny, nz] = size
  const strides = [1, source.size[0], source.size[0] * source.size[1]]
  const voxels = source.size[0] * source.size[1] * source.size[2]
  const offsets = map.index.map((table, t) => {
    const stride = strides[map.from[t]!]!
    return table.map((i) => (i < 0 ? -1 : i * stride))
  }) as [Int32Array, Int32Array, Int32Array]
  const [ox, oy, oz] = offsets
  const outside = offsets.some((table) => table.includes(-1))
  const held = outside ? holding(source.data, fill) : source.data
  const target = emptyLike(held, nx * ny * nz * source.channels)
  if (outside && fill !== 0) target.fill(fill)
  const runs = map.from[0] === 0 && isRun(ox)
  const [from, to] = [asPlainWidth(held), asPlainWidth(target)]
  for (let c = 0; c < source.channels; c++) {
    const data = from.subarray(c * voxels, (c + 1) * voxels) as VoxelArray
    const out = to.subarray(c * nx * ny * nz, (c + 1) * nx * ny * nz) as VoxelArray
    if (runs) gatherRuns(data, out, ox, oy, oz)
    else if (outside) gatherChecked(data, out, ox, oy, oz)
    else if (map.from[0] === 0) gatherRows(data, out, ox, oy, oz)
    else gatherTiled(data, out, ox, oy, oz, map.from[1] === 0)
  }
  return makeVolume(size, affine, target, { channels: source.channels })
}

/** Rows that are one stretch of the source each: memory copies. */
function gatherRuns(data: VoxelArray, out: VoxelArray, ox: Int32Array, oy: Int32Array, oz: Int32Array): void {
  const nx = ox.length
  const ny = oy.length
  let first = 0
  while (first < nx && ox[first]! < 0) first++
  let last = nx
  while (last > first && ox[last - 1]! < 0) last--
  if (last === first) return
  for (let z = 0; z < oz.length; z++) {
    if (oz[z]! < 0) continue
    for (let y = 0; y < ny; y++) {
      if (oy[y]! < 0) continue
      const start = oz[z]! + oy[y]! + ox[first]!
      out.set(data.subarray(start, start + last - first), (z * ny + y) * nx + first)
    }
  }
}

function gatherChecked(data: VoxelArray, out: VoxelArray, ox: Int32Array, oy: Int32Array, oz: Int32Array): void {
  const nx = ox.length
  const ny = oy.length
  let first = 0
  while (first < nx && ox[first]! < 0) first++
  let last = nx
  while (last > first && ox[last - 1]! < 0) last--
  for (let z = 0; z < oz.length; z++) {
    if (oz[z]! < 0) continue
    for (let y = 0; y < ny; y++) {
      if (oy[y]! < 0) continue
      const base = oz[z]! + oy[y]!
      const row = (z * ny + y) * nx
      for (let x = first; x < last; x++) if (ox[x]! >= 0) out[row + x] = data[base + ox[x]!]!
    }
  }
}

function gatherRows(data: VoxelArray, out: VoxelArray, ox: Int32Array, oy: Int32Array, oz: Int32Array): void {
  const nx = ox.length
  const ny = oy.length
  for (let z = 0; z < oz.length; z++) {
    for (let y = 0; y < ny; y++) {
      const base = oz[z]! + oy[y]!
      const row = (z * ny + y) * nx
      for (let x = 0; x < nx; x++) out[row + x] = data[base + ox[x]!]!
    }
  }
}

/** The source's fastest axis is not the target's: walk both in tiles that fit the first cache. */
function gatherTiled(
  data: VoxelArray,
  out: VoxelArray,
  ox: Int32Array,
  oy: Int32Array,
  oz: Int32Array,
  fastIsY: boolean,
): void {
  const nx = ox.length
  const ny = oy.length
  const plane = nx * ny
  const fast = fastIsY ? oy : oz
  const slow = fastIsY ? oz : oy
  const fastStep = fastIsY ? nx : plane
  const slowStep = fastIsY ? plane : nx
  for (let s = 0; s < slow.length; s++) {
    const slowBase = slow[s]!
    for (let f0 = 0; f0 < fast.length; f0 += TILE) {
      const f1 = Math.min(f0 + TILE, fast.length)
      for (let x0 = 0; x0 < nx; x0 += TILE) {
        const x1 = Math.min(x0 + TILE, nx)
        for (let f = f0; f < f1; f++) {
          const base = slowBase + fast[f]!
          const row = s * slowStep + f * fastStep
          for (let x = x0; x < x1; x++) out[row + x] = data[base + ox[x]!]!
        }
      }
    }
  }
}

/** Whether the inside part of a table is i, i+1, i+2, ... with only -1 around it. */
function isRun(offsets: Int32Array): boolean {
  let first = 0
  while (first < offsets.length && offsets[first]! < 0) first++
  let i = first + 1
  while (i < offsets.length && offsets[i] === offsets[i - 1]! + 1) i++
  while (i < offsets.length && offsets[i]! < 0) i++
  return i >= offsets.length
}

/** n voxels starting at `start` of an axis of `length`; -1 before its begin and after its end. */
export function windowTable(start: number, n: number, length: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => (start + i >= 0 && start + i < length ? start + i : -1))
}

/** torch's `nearest`: floor(i * in/out), computed in float32 as torch does. */
export function nearestTable(source: number, target: number): Int32Array {
  const scale = Math.fround(source / target)
  return Int32Array.from({ length: target }, (_, i) => Math.min(Math.floor(Math.fround(i * scale)), source - 1))
}

/** torch's `nearest-exact`: the voxel in which the centre lies. */
export function nearestExactTable(source: number, target: number): Int32Array {
  const scale = source / target
  return Int32Array.from({ length: target }, (_, i) => Math.min(Math.floor((i + 0.5) * scale), source - 1))
}

/** Positions `offset + i * step` on a source axis, those beyond the edge held at the edge. */
export function linearTable(source: number, target: number, step: number, offset: number): LinearTable {
  const low = new Int32Array(target)
  const high = new Int32Array(target)
  const weight = new Float64Array(target)
  for (let i = 0; i < target; i++) {
    const at = Math.min(Math.max(offset + i * step, 0), source - 1)
    const floor = Math.floor(at)
    low[i] = floor
    high[i] = Math.min(floor + 1, source - 1)
    weight[i] = at - floor
  }
  return { low, high, weight }
}

/** The linear table of torch's `interpolate`. */
export function resizeLinearTable(source: number, target: number, alignCorners: boolean): LinearTable {
  if (alignCorners) return linearTable(source, target, target > 1 ? (source - 1) / (target - 1) : 0, 0)
  const scale = source / target
  return linearTable(source, target, scale, 0.5 * scale - 0.5)
}

/**
 * Trilinear on a grid whose axes run along the source's: per target slice one blend of two source slices, per row one of
 * two of its rows, then one along x. Source slices are turned into float64 once each, whatever their type. float32 out.
 */
export function resampleSeparable(
  source: Pick<Volume, 'size' | 'channels' | 'data'>,
  tables: LinearTables,
  affine: Float64Array,
): Volume<Float32Array> {
  const [sx, sy, sz] = source.size
  const [tx, ty, tz] = tables
  const nx = tx.low.length
  const ny = ty.low.length
  const nz = tz.low.length
  const target = new Float32Array(nx * ny * nz * source.channels)
  const row = new Float64Array(sx)
  const blend = new Float64Array(sx * sy)
  for (let c = 0; c < source.channels; c++) {
    const slices = new SlicePair(source.data, sx * sy, c * sx * sy * sz)
    let out = c * nx * ny * nz
    for (let z = 0; z < nz; z++) {
      const low = slices.get(tz.low[z]!)
      const weight = tz.weight[z]!
      const plane = weight === 0 ? low : blended(low, slices.get(tz.high[z]!), weight, blend)
      for (let y = 0; y < ny; y++, out += nx) {
        blendRows(plane, ty.low[y]! * sx, ty.high[y]! * sx, ty.weight[y]!, row)
        stretchRow(row, target, out, tx)
      }
    }
  }
  return makeVolume([nx, ny, nz], affine, target, { channels: source.channels })
}

/** The last two slices asked for, as float64. */
class SlicePair {
  readonly #data: VoxelArray
  readonly #length: number
  readonly #offset: number
  readonly #kept: { index: number; values: Float64Array }[]

  constructor(data: VoxelArray, length: number, offset: number) {
    this.#data = data
    this.#length = length
    this.#offset = offset
    this.#kept = [0, 1].map(() => ({ index: -1, values: new Float64Array(length) }))
  }

  get(index: number): Float64Array {
    const known = this.#kept.find((slice) => slice.index === index)
    if (known) {
      // the one asked for last is replaced last
      if (known === this.#kept[0]) this.#kept.reverse()
      return known.values
    }
    const slice = this.#kept[0]!
    const start = this.#offset + index * this.#length
    slice.values.set(this.#data.subarray(start, start + this.#length))
    slice.index = index
    this.#kept.reverse()
    return slice.values
  }
}

function blended(a: Float64Array, b: Float64Array, weight: number, out: Float64Array): Float64Array {
  for (let i = 0; i < out.length; i++) out[i] = a[i]! + (b[i]! - a[i]!) * weight
  return out
}

function blendRows(plane: Float64Array, a: number, b: number, weight: number, row: Float64Array): void {
  if (weight === 0) for (let x = 0; x < row.length; x++) row[x] = plane[a + x]!
  else for (let x = 0; x < row.length; x++) row[x] = plane[a + x]! + (plane[b + x]! - plane[a + x]!) * weight
}

function stretchRow(row: Float64Array, target: Float32Array, out: number, { low, high, weight }: LinearTable): void {
  for (let x = 0; x < low.length; x++) {
    const a = row[low[x]!]!
    target[out + x] = a + (row[high[x]!]! - a) * weight[x]!
  }
}

/** torch's adaptive average pooling (`area`): each target voxel is the mean of the source voxels its box touches. */
export function resampleArea(
  source: Pick<Volume, 'size' | 'channels' | 'data'>,
  size: Vec3,
  affine: Float64Array,
): Volume<Float32Array> {
  let current = { size: source.size, channels: source.channels, data: new Float32Array(source.data) }
  for (const axis of [0, 1, 2] as const) {
    if (current.size[axis] !== size[axis]) current = poolAxis(current, axis, size[axis])
  }
  return makeVolume(size, affine, current.data, { channels: source.channels })
}

function poolAxis(
  source: { size: Vec3; channels: number; data: Float32Array<ArrayBuffer> },
  axis: 0 | 1 | 2,
  length: number,
): { size: Vec3; channels: number; data: Float32Array<ArrayBuffer> } {
  const { size, channels, data } = source
  const newSize: [number, number, number] = [size[0], size[1], size[2]]
  newSize[axis] = length
  const inner = axis === 0 ? 1 : axis === 1 ? size[0] : size[0] * size[1]
  const outer = ((size[0] * size[1] * size[2]) / inner / size[axis]) * channels
  const target = new Float32Array(newSize[0] * newSize[1] * newSize[2] * channels)
  for (let o = 0; o < outer; o++) {
    for (let t = 0; t < length; t++) {
      const start = Math.floor((t * size[axis]) / length)
      const end = Math.ceil(((t + 1) * size[axis]) / length)
      for (let i = 0; i < inner; i++) {
        let sum = 0
        for (let s = start; s < end; s++) sum += data[(o * size[axis] + s) * inner + i]!
        target[(o * length + t) * inner + i] = sum / (end - start)
      }
    }
  }
  return { size: newSize, channels, data: target }
}

export interface AffineSampling {
  /** Target voxel index -> source voxel index, 4x4 row-major. */
  readonly toSource: Float64Array
  readonly size: Vec3
  readonly affine: Float64Array
  /** What lies beyond the source: its nearest voxel, or zero. */
  readonly outside: 'border' | 'zeros'
}

/** Trilinear through any affine, as torch's `grid_sample`. float32 out. */
export function resampleLinear(
  source: Pick<Volume, 'size' | 'channels' | 'data'>,
  { toSource, size, affine, outside }: AffineSampling,
): Volume<Float32Array> {
  const tables = outside === 'border' ? axisAlignedTables(source.size, size, toSource) : undefined
  if (tables) return resampleSeparable(source, tables, affine)
  const [sx, sy, sz] = source.size
  const [nx, ny, nz] = size
  const target = new Float32Array(nx * ny * nz * source.channels)
  const [m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23] = toSource as unknown as number[] as [...Twelve]
  const border = outside === 'border'
  for (let c = 0; c < source.channels; c++) {
    // one type for the loop below, whatever the file had
    const data = new Float32Array(sx * sy * sz)
    data.set(source.data.subarray(c * data.length, (c + 1) * data.length))
    let out = c * nx * ny * nz
    for (let z = 0; z < nz; z++) {
      for (let y = 0; y < ny; y++) {
        const bx = m01 * y + m02 * z + m03
        const by = m11 * y + m12 * z + m13
        const bz = m21 * y + m22 * z + m23
        for (let x = 0; x < nx; x++) {
          let px = m00 * x + bx
          let py = m10 * x + by
          let pz = m20 * x + bz
          if (border) {
            px = px < 0 ? 0 : px > sx - 1 ? sx - 1 : px
            py = py < 0 ? 0 : py > sy - 1 ? sy - 1 : py
            pz = pz < 0 ? 0 : pz > sz - 1 ? sz - 1 : pz
          }
          target[out++] = trilinear(data, sx, sy, sz, px, py, pz)
        }
      }
    }
  }
  return makeVolume(size, affine, target, { channels: source.channels })
}

type Twelve = [number, number, number, number, number, number, number, number, number, number, number, number]

function trilinear(data: VoxelArray, sx: number, sy: number, sz: number, px: number, py: number, pz: number): number {
  const x0 = Math.floor(px)
  const y0 = Math.floor(py)
  const z0 = Math.floor(pz)
  const wx = px - x0
  const wy = py - y0
  const wz = pz - z0
  if (x0 >= 0 && y0 >= 0 && z0 >= 0 && x0 + 1 < sx && y0 + 1 < sy && z0 + 1 < sz) {
    const i = x0 + sx * (y0 + sy * z0)
    const j = i + sx * sy
    const a = data[i]! + (data[i + 1]! - data[i]!) * wx
    const b = data[i + sx]! + (data[i + sx + 1]! - data[i + sx]!) * wx
    const c = data[j]! + (data[j + 1]! - data[j]!) * wx
    const d = data[j + sx]! + (data[j + sx + 1]! - data[j + sx]!) * wx
    const low = a + (b - a) * wy
    return low + (c + (d - c) * wy - low) * wz
  }
  let sum = 0
  for (let k = 0; k < 8; k++) {
    const x = x0 + (k & 1)
    const y = y0 + ((k >> 1) & 1)
    const z = z0 + (k >> 2)
    const weight = (k & 1 ? wx : 1 - wx) * (k & 2 ? wy : 1 - wy) * (k & 4 ? wz : 1 - wz)
    if (weight === 0 || x < 0 || y < 0 || z < 0 || x >= sx || y >= sy || z >= sz) continue
    sum += weight * data[x + sx * (y + sy * z)]!
  }
  return sum
}

/** Nearest through any affine, half-way positions to the even voxel as torch's `grid_sample` does. Keeps the type. */
export function resampleNearest<T extends VoxelArray>(
  source: Pick<Volume<T>, 'size' | 'channels' | 'data'>,
  { toSource, size, affine, outside }: AffineSampling,
): Volume<T> {
  const map = axisAlignedMap(source.size, size, toSource, outside)
  if (map) return gather(source, map, affine)
  const [sx, sy, sz] = source.size
  const [nx, ny, nz] = size
  const target = emptyLike(source.data, nx * ny * nz * source.channels)
  const [values, result] = [asPlainWidth(source.data), asPlainWidth(target)]
  const m = toSource
  const border = outside === 'border'
  for (let c = 0; c < source.channels; c++) {
    const base = c * sx * sy * sz
    let out = c * nx * ny * nz
    for (let z = 0; z < nz; z++) {
      for (let y = 0; y < ny; y++) {
        const bx = m[1]! * y + m[2]! * z + m[3]!
        const by = m[5]! * y + m[6]! * z + m[7]!
        const bz = m[9]! * y + m[10]! * z + m[11]!
        for (let x = 0; x < nx; x++, out++) {
          let px = roundHalfEven(m[0]! * x + bx)
          let py = roundHalfEven(m[4]! * x + by)
          let pz = roundHalfEven(m[8]! * x + bz)
          if (border) {
            px = px < 0 ? 0 : px >= sx ? sx - 1 : px
            py = py < 0 ? 0 : py >= sy ? sy - 1 : py
            pz = pz < 0 ? 0 : pz >= sz ? sz - 1 : pz
          } else if (px < 0 || py < 0 || pz < 0 || px >= sx || py >= sy || pz >= sz) continue
          result[out] = values[base + px + sx * (py + sy * pz)]!
        }
      }
    }
  }
  return makeVolume(size, affine, target, { channels: source.channels })
}

/** The per-axis nearest tables of an affine that only scales and shifts along the axes; undefined for any other. */
export function axisAlignedMap(
  source: Vec3,
  size: Vec3,
  toSource: Float64Array,
  outside: 'border' | 'zeros',
): AxisMap | undefined {
  if (!isDiagonal(source, size, toSource)) return undefined
  const index = ([0, 1, 2] as const).map((axis) => {
    const step = toSource[axis * 5]!
    const offset = toSource[axis * 4 + 3]!
    return Int32Array.from({ length: size[axis] }, (_, i) => {
      const at = offset + i * step
      if (outside === 'zeros') {
        const near = roundHalfEven(at)
        return near < 0 || near >= source[axis] ? -1 : near
      }
      return roundHalfEven(Math.min(Math.max(at, 0), source[axis] - 1))
    })
  }) as unknown as AxisMap['index']
  return { from: [0, 1, 2], index }
}

function axisAlignedTables(source: Vec3, size: Vec3, toSource: Float64Array): LinearTables | undefined {
  if (!isDiagonal(source, size, toSource)) return undefined
  return ([0, 1, 2] as const).map((axis) =>
    linearTable(source[axis], size[axis], toSource[axis * 5]!, toSource[axis * 4 + 3]!),
  ) as unknown as LinearTables
}

/** Whether the off-diagonal terms move no voxel by more than a hundred-thousandth of one. */
export function isDiagonal(source: Vec3, size: Vec3, m: Float64Array): boolean {
  for (let row = 0; row < 3; row++) {
    if (source[row] === 1 && size[row] === 1) continue
    for (let column = 0; column < 3; column++) {
      if (row !== column && Math.abs(m[row * 4 + column]!) * size[column]! > 1e-5) return false
    }
  }
  return true
}
