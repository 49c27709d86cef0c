/**
 * However a scan's voxels lie in its file, its label map comes back on them: header fields bit for bit, the anatomy where
 * it was. The model reorients to RAS and resamples, so what comes back has been there and back again.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeVolume, type Vec3 } from '../../src/volume/volume.js'
import { readMultipart } from '../helpers/multipart.js'
import { type NiftiSpec, niftiBytes } from '../helpers/nifti-bytes.js'
import { fixtureModel, modelConfig } from '../helpers/registry.js'
import { ServerProcess } from '../helpers/server-process.js'
import { axisOrders, inAxisOrder } from '../helpers/volumes.js'

const CONFIG = modelConfig({
  pre_transforms: [
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'EnsureChannelFirstd', args: { keys: 'image' } },
    { name: 'Orientationd', args: { keys: 'image', axcodes: 'RAS' } },
    { name: 'Spacingd', args: { keys: 'image', pixdim: [0.4, 0.4, 0.4], mode: 'bilinear' } },
  ],
  post_transforms: [
    { name: 'AsDiscreted', args: { keys: 'model', argmax: true } },
    { name: 'FetchExtremePoints', args: { image_field: 'image', label_field: 'model', points: 'points' } },
  ],
})

let workspace: string
let server: ServerProcess
beforeAll(async () => {
  workspace = await mkdtemp(join(tmpdir(), 'aidant-geometry-'))
  server = await ServerProcess.start(workspace, ['--device', 'cpu'])
  const body = new FormData()
  body.append('config', new Blob([JSON.stringify(CONFIG)]), 'config_aiaa.json')
  body.append('data', new Blob([new Uint8Array(fixtureModel('threshold.onnx'))]), 'model.onnx')
  const reply = await fetch(`${server.url}/admin/model/bright`, { method: 'PUT', body })
  expect([reply.status, await reply.text()]).toEqual([200, expect.any(String)])
})
afterAll(async () => {
  await server?.end('SIGTERM')
  await rm(workspace, { recursive: true, force: true, maxRetries: 3 })
})

/** The label map and, in voxels of the file, the extreme points beside it. */
async function segment(image: Uint8Array): Promise<{ file: Buffer; points: Vec3[] }> {
  const body = new FormData()
  body.append('params', '{"result_extension": ".nii"}')
  body.append('image', new Blob([new Uint8Array(image)]), 'scan.nii')
  const reply = await fetch(`${server.url}/v1/segmentation?model=bright`, { method: 'POST', body })
  const bytes = Buffer.from(await reply.arrayBuffer())
  expect(reply.status, bytes.toString('latin1', 0, 300)).toBe(200)
  const [params, file] = readMultipart(reply.headers.get('content-type')!, bytes)
  return { file: Buffer.from(file!.body), points: JSON.parse(params!.body.toString()).points }
}

/** Reads a header field by field, numbers as the bits they are. */
function geometryIn(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const le = view.getInt32(0, true) === 348 || view.getInt32(0, true) === 540
  const version = view.getInt32(0, le) === 348 ? 1 : 2
  const range = (offset: number, count: number) => Array.from({ length: count }, (_, i) => offset + i)
  const reals = (first: number, count: number) =>
    range(0, count).map((i) =>
      version === 1 ? view.getUint32(first + 4 * i, le) : view.getBigUint64(first + 8 * i, le),
    )
  return version === 1
    ? {
        version,
        dim: range(0, 8).map((i) => view.getInt16(40 + 2 * i, le)),
        pixdim: reals(76, 4),
        units: view.getUint8(123),
        codes: [view.getInt16(252, le), view.getInt16(254, le)],
        quatern: reals(256, 6),
        srow: reals(280, 12),
      }
    : {
        version,
        dim: range(0, 8).map((i) => Number(view.getBigInt64(16 + 8 * i, le))),
        pixdim: reals(104, 4),
        units: view.getInt32(500, le),
        codes: [view.getInt32(344, le), view.getInt32(348, le)],
        quatern: reals(352, 6),
        srow: reals(400, 12),
      }
}

function labelsOf(bytes: Buffer): Uint8Array {
  const offset = bytes.readInt32LE(0) === 348 ? bytes.readFloatLE(108) : Number(bytes.readBigInt64LE(168))
  return new Uint8Array(bytes.subarray(offset))
}

function dice(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length)
  let both = 0
  let sum = 0
  for (let i = 0; i < a.length; i++) {
    if (a[i]! > 0 && b[i]! > 0) both++
    sum += (a[i]! > 0 ? 1 : 0) + (b[i]! > 0 ? 1 : 0)
  }
  return (2 * both) / sum
}

/** Smallest and largest index of the label on each axis. */
function boxOf(labels: Uint8Array, [nx, ny, nz]: Vec3): [number, number][] {
  const box: [number, number][] = [nx, ny, nz].map((n) => [n, -1])
  labels.forEach((label, i) => {
    if (label === 0) return
    const index = [i % nx, Math.floor(i / nx) % ny, Math.floor(i / (nx * ny))]
    box.forEach((range, axis) => {
      range[0] = Math.min(range[0], index[axis]!)
      range[1] = Math.max(range[1], index[axis]!)
    })
  })
  return box
}

/** Row-major 4x4 from axis vectors (mm a voxel step) and the place of voxel 0, 0, 0. */
function affineOf(x: Vec3, y: Vec3, z: Vec3, origin: Vec3): Float64Array {
  const row = (i: number) => [x[i]!, y[i]!, z[i]!, origin[i]!]
  return Float64Array.of(...row(0), ...row(1), ...row(2), 0, 0, 0, 1)
}

/**
 * A body without any symmetry, in mm: a large ball and a smaller one beside it. Falls linearly through 0.5 at its
 * surface, so that interpolation keeps the surface where it is.
 */
function brightness(x: number, y: number, z: number, scale: number): number {
  const large = 11 - Math.hypot(x + 2, y - 3, z + 1) / scale
  const small = 6 - Math.hypot(x - 8, y + 6, z - 5) / scale
  return Math.min(1, Math.max(0, 0.5 + Math.max(large, small) / 8))
}

/** The body sampled on a grid whose middle is the middle of the body. */
function bodyOn(size: Vec3, axes: readonly [Vec3, Vec3, Vec3], scale: number) {
  const origin = [0, 1, 2].map((i) => -axes.reduce((sum, axis, a) => sum + (axis[i]! * (size[a]! - 1)) / 2, 0))
  const affine = affineOf(...axes, origin as unknown as Vec3)
  const data = new Float32Array(size[0] * size[1] * size[2])
  let at = 0
  for (let z = 0; z < size[2]; z++)
    for (let y = 0; y < size[1]; y++)
      for (let x = 0; x < size[0]; x++) {
        const [wx, wy, wz] = [0, 4, 8].map(
          (r) => affine[r]! * x + affine[r + 1]! * y + affine[r + 2]! * z + affine[r + 3]!,
        ) as [number, number, number]
        data[at++] = brightness(wx, wy, wz, scale)
      }
  return makeVolume(size, affine, data)
}

type Body = ReturnType<typeof bodyOn>

/** As float32 voxels under an sform, unless told otherwise. */
function fileOf({ size, affine, data }: Body, spec: NiftiSpec = {}): Uint8Array {
  const pixdim = [0, 1, 2].map((c) => Math.hypot(affine[c]!, affine[4 + c]!, affine[8 + c]!))
  return niftiBytes({
    dim: [3, ...size],
    datatype: 16,
    pixdim: [1, ...pixdim, 0, 0, 0, 0],
    srow: [...affine.subarray(0, 12)],
    voxels: [...data],
    ...spec,
  })
}

const truth = (body: Body) => body.data.map((value) => (value > 0.5 ? 1 : 0))

describe('the 48 ways to store one scan', () => {
  const base = bodyOn(
    [30, 25, 20],
    [
      [1.1, 0, 0],
      [0, 1.3, 0],
      [0, 0, 1.7],
    ],
    1,
  )
  let plain: Uint8Array
  beforeAll(async () => {
    plain = labelsOf((await segment(fileOf(base))).file)
    expect(dice(plain, truth(base))).toBeGreaterThan(0.97)
  })

  test.each(axisOrders)('$codes', async (order) => {
    const turned = inAxisOrder(base, order) as Body
    const file = fileOf(turned)
    const { file: reply, points } = await segment(file)
    expect(geometryIn(reply)).toEqual(geometryIn(file))
    const labels = labelsOf(reply)
    const expected = inAxisOrder(makeVolume(base.size, base.affine, plain), order)
    expect(dice(labels, expected.data)).toBeGreaterThanOrEqual(0.99)
    const ranges = [0, 1, 2]
      .map((axis) => points.map((point) => point[axis]!))
      .map((n) => [Math.min(...n), Math.max(...n)])
    expect(ranges).toEqual(boxOf(labels, turned.size))
  })
})

/** The rotation of a unit quaternion, columns. */
function rotation(b: number, c: number, d: number): [Vec3, Vec3, Vec3] {
  const a = Math.sqrt(1 - b * b - c * c - d * d)
  return [
    [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
    [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
    [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - b * b - c * c],
  ]
}

const QUATERN = [0.13, -0.21, 0.17] as const
const scaled = (axes: readonly [Vec3, Vec3, Vec3], by: Vec3) =>
  axes.map((axis, a) => axis.map((value) => value * by[a]!)) as unknown as [Vec3, Vec3, Vec3]
const oblique = bodyOn([52, 50, 44], scaled(rotation(...QUATERN), [1, 1.1, 1.2]), 2)
const leftHanded = bodyOn([52, 50, 44], scaled(rotation(...QUATERN), [-1, 1.1, 1.2]), 2)
const sheared = bodyOn(
  [56, 56, 50],
  [
    [1, 0.1, 0],
    [0.2, 1, 0.05],
    [0.1, -0.15, 1.1],
  ],
  2,
)
const anisotropic = bodyOn(
  [70, 64, 14],
  [
    [0.8, 0, 0],
    [0, 0.8, 0],
    [0, 0, 4.5],
  ],
  2,
)
const flat = bodyOn(
  [60, 60, 1],
  [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 3],
  ],
  2,
)
const qformOf = ({ affine }: Body, qfac: 1 | -1): NiftiSpec => ({
  qformCode: 1,
  sformCode: 0,
  srow: new Array(12).fill(0),
  quatern: [...QUATERN, affine[3]!, affine[7]!, affine[11]!],
  pixdim: [qfac, 1, 1.1, 1.2, 0, 0, 0, 0],
})

const without = ({ codes: _codes, quatern: _quatern, pixdim: _pixdim, ...rest }: ReturnType<typeof geometryIn>) => rest

describe('other grids', () => {
  test.each<{ name: string; body: Body; spec: NiftiSpec; atLeast?: number }>([
    { name: 'oblique', body: oblique, spec: {} },
    { name: 'oblique, by qform alone', body: oblique, spec: qformOf(oblique, 1) },
    { name: 'oblique and left-handed', body: leftHanded, spec: {} },
    { name: 'sheared', body: sheared, spec: {} },
    { name: 'sheared, NIfTI-2', body: sheared, spec: { version: 2 } },
    { name: 'anisotropic', body: anisotropic, spec: {} },
    { name: 'NIfTI-2', body: oblique, spec: { version: 2 } },
    { name: 'big-endian', body: oblique, spec: { littleEndian: false } },
    { name: 'big-endian NIfTI-2', body: oblique, spec: { version: 2, littleEndian: false } },
    {
      name: 'an sform beside another qform',
      body: oblique,
      spec: { qformCode: 2, sformCode: 3, quatern: [0, 0, 1, 5, 6, 7], pixdim: [-1, 1, 1.1, 1.2, 0, 0, 0, 0] },
    },
    { name: 'a trailing dimension of 1', body: oblique, spec: { dim: [4, 52, 50, 44, 1] } },
    { name: 'one slice', body: flat, spec: {} },
    { name: 'two dimensions', body: flat, spec: { dim: [2, 60, 60] } },
    {
      name: 'an extension before the voxels',
      body: oblique,
      spec: { extension: new Uint8Array([16, 0, 0, 0, 6, 0, 0, 0, 97, 98, 99, 100, 0, 0, 0, 0]) },
    },
  ])('$name', async ({ name, body, spec }) => {
    const file = fileOf(body, spec)
    const { file: reply } = await segment(file)
    const { codes, quatern, pixdim, ...rest } = geometryIn(reply)
    const was = geometryIn(file)
    // Beside a sheared sform, with which ITK does not open a file, there is a qform in the result.
    if (name.startsWith('sheared')) expect({ codes, rest }).toEqual({ codes: [1, was.codes[1]], rest: without(was) })
    else expect({ codes, quatern, pixdim, ...rest }).toEqual(was)
    expect(dice(labelsOf(reply), truth(body))).toBeGreaterThanOrEqual(0.99)
  })

  test('a rotation of the patient changes nothing in the file', async () => {
    const plain = makeVolume(
      oblique.size,
      Float64Array.of(1, 0, 0, 0, 0, 1.1, 0, 0, 0, 0, 1.2, 0, 0, 0, 0, 1),
      oblique.data,
    )
    const [turned, straight] = [await segment(fileOf(oblique)), await segment(fileOf(plain))]
    expect(dice(labelsOf(turned.file), labelsOf(straight.file))).toBeGreaterThanOrEqual(0.99)
  })

  test.each([
    { name: 'voxels of a metre', pixdim: [1, 1000, 1000, 1000, 0, 0, 0, 0] },
    { name: 'voxels of a thousand kilometres', pixdim: [1, 1e9, 1e9, 1e9, 0, 0, 0, 0] },
  ])('$name: refused before memory is asked for, and the next scan is answered', async ({ pixdim }) => {
    const body = new FormData()
    const file = niftiBytes({ dim: [3, 8, 8, 8], datatype: 2, sformCode: 0, pixdim, voxels: new Uint8Array(512) })
    body.append('image', new Blob([new Uint8Array(file)]), 'scan.nii')
    const reply = await fetch(`${server.url}/v1/segmentation?model=bright`, { method: 'POST', body })
    expect([reply.status, await reply.json()]).toMatchObject([
      413,
      { code: 'TOO_LARGE', hint: expect.stringMatching(/millimetres/) },
    ])
    expect(labelsOf((await segment(fileOf(flat))).file)).toHaveLength(3600)
  })
})
