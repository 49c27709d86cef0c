/**
 * `node scripts/samples.mjs`: writes the page's sample scans, src/web/samples/*.nii.gz. They are phantoms made of ellipsoids,
 * of nobody: a head as a T1 MRI shows it and an abdomen in Hounsfield units. The same files come out every time.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { ROOT } from './install.mjs'

/** An ellipsoid in mm, R A S from the middle of the image; `turn` in degrees about the S axis. */
const blob = (value, [x, y, z], [rx, ry, rz], turn = 0) => {
  const [c, s] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)]
  return {
    value,
    holds: ([px, py, pz]) => {
      const [dx, dy, dz] = [px - x, py - y, pz - z]
      const [u, v] = [c * dx + s * dy, -s * dx + c * dy]
      return (u / rx) ** 2 + (v / ry) ** 2 + (dz / rz) ** 2 <= 1
    },
  }
}

/** A tube along S. */
const tube = (value, [x, y], [rx, ry], [from, to] = [-1e9, 1e9]) => ({
  value,
  holds: ([px, py, pz]) => pz >= from && pz <= to && ((px - x) / rx) ** 2 + ((py - y) / ry) ** 2 <= 1,
})

/** Folds: grey matter dips into white matter like this. */
const folded = ({ value, holds }, depth) => ({
  value,
  holds: ([x, y, z]) => {
    const wave = 1 + depth * Math.sin(x / 4.1) * Math.sin(y / 4.7 + 1) * Math.sin(z / 4.3 + 2)
    return holds([x * wave, y * wave, z * wave])
  },
})

const both = (make) => [make(-1), make(1)].flat()

/** Later shapes lie over earlier ones. */
const HEAD = {
  size: [88, 104, 84],
  spacing: [2, 2, 2],
  // Stored as MRI scanners often do: x to the left, y to the front, z upwards.
  signs: [-1, 1, 1],
  background: 8,
  noise: 5,
  shapes: [
    tube(150, [0, -22], [42, 40], [-90, -40]),
    blob(200, [0, 0, 4], [76, 94, 78]),
    blob(40, [0, 0, 4], [71, 89, 73]),
    blob(60, [0, 0, 4], [66, 84, 68]),
    folded(blob(130, [0, 0, 6], [62, 79, 62]), 0.05),
    folded(blob(190, [0, 0, 6], [53, 69, 53]), 0.09),
    blob(130, [0, -46, -38], [46, 30, 22]),
    blob(180, [0, -34, -46], [12, 13, 28]),
    ...both((side) => [
      blob(45, [side * 10, 8, 14], [6, 30, 9], side * -8),
      blob(120, [side * 14, 2, 6], [7, 13, 9]),
      blob(135, [side * 25, 6, 4], [7, 17, 9], side * 12),
      blob(118, [side * 27, -16, -18], [6, 18, 6], side * 20),
      blob(40, [side * 32, 80, -16], [13, 13, 13]),
    ]),
    blob(235, [30, -34, 26], [13, 11, 12]),
    blob(110, [30, -34, 26], [7, 6, 6]),
  ],
}

const ABDOMEN = {
  size: [112, 84, 56],
  spacing: [3, 3, 4],
  // As a DICOM series becomes NIfTI: x to the left, y to the front.
  signs: [-1, 1, 1],
  background: -1000,
  noise: 9,
  shapes: [
    tube(-100, [0, 0], [158, 112]),
    tube(55, [0, 2], [142, 96]),
    tube(-90, [0, 10], [126, 80]),
    blob(30, [10, 24, -10], [70, 42, 100]),
    ...both((side) => [tube(60, [side * 40, -66], [30, 20]), tube(58, [side * 34, -36], [15, 15], [-112, 30])]),
    tube(320, [0, -48], [22, 18]),
    tube(120, [0, -48], [17, 13]),
    blob(-850, [20, 50, -40], [13, 11, 17]),
    blob(-820, [-26, 46, -60], [12, 10, 15]),
    blob(62, [56, 8, 52], [74, 62, 58], 12),
    blob(60, [-6, 34, 62], [52, 34, 36]),
    blob(12, [70, 16, 46], [13, 13, 13]),
    blob(8, [44, 50, 26], [13, 11, 19]),
    blob(52, [-92, -22, 52], [28, 38, 42], -18),
    blob(40, [-50, 34, 58], [36, 26, 30]),
    blob(-830, [-52, 46, 66], [24, 11, 18]),
    blob(45, [-6, 8, 14], [48, 11, 11], -14),
    ...both((side) => [
      blob(180, [side * 64, -38, side < 0 ? -4 : -16], [25, 28, 50], side * 24),
      blob(40, [side * 56, -34, side < 0 ? -4 : -16], [8, 10, 26], side * 24),
    ]),
    tube(210, [-8, -18], [10, 10]),
    tube(140, [18, -18], [12, 9]),
  ],
}

/** Numbers between 0 and 1 that are the same every time. */
function* randoms(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state / 2 ** 32
  }
}

function paint({ size, spacing, signs, background, noise, shapes }) {
  const [nx, ny, nz] = size
  const at = (index, axis) => signs[axis] * (index - (size[axis] - 1) / 2) * spacing[axis]
  const data = new Int16Array(nx * ny * nz)
  const random = randoms(20)
  for (let z = 0, i = 0; z < nz; z++)
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++, i++) {
        let sum = 0
        // Eight looks into a voxel: edges are blurred as a scanner blurs them.
        for (const [dx, dy, dz] of CORNERS) {
          const point = [at(x + dx, 0), at(y + dy, 1), at(z + dz, 2)]
          sum += shapes.findLast((shape) => shape.holds(point))?.value ?? background
        }
        const bell = [1, 2, 3].reduce((total) => total + random.next().value - 0.5, 0)
        // Whole steps of 2: finer noise would only make the file larger.
        data[i] = 2 * Math.round((sum / 8 + noise * 2 * bell) / 2)
      }
  return data
}

const CORNERS = [-0.25, 0.25].flatMap((dx) => [-0.25, 0.25].flatMap((dy) => [-0.25, 0.25].map((dz) => [dx, dy, dz])))

function nifti({ size, spacing, signs }, data) {
  const bytes = Buffer.alloc(352 + data.byteLength)
  bytes.writeInt32LE(348, 0)
  for (const [i, n] of [3, ...size, 1, 1, 1, 1].entries()) bytes.writeInt16LE(n, 40 + 2 * i)
  bytes.writeInt16LE(4, 70)
  bytes.writeInt16LE(16, 72)
  for (const [i, mm] of [1, ...spacing].entries()) bytes.writeFloatLE(mm, 76 + 4 * i)
  bytes.writeFloatLE(352, 108)
  bytes.writeFloatLE(1, 112)
  bytes[123] = 2
  bytes.write('Aidant phantom', 148, 'latin1')
  bytes.writeInt16LE(1, 254)
  for (let row = 0; row < 3; row++) {
    bytes.writeFloatLE(signs[row] * spacing[row], 280 + 16 * row + 4 * row)
    bytes.writeFloatLE((-signs[row] * spacing[row] * (size[row] - 1)) / 2, 280 + 16 * row + 12)
  }
  bytes.write('n+1\0', 344, 'latin1')
  Buffer.from(data.buffer).copy(bytes, 352)
  return bytes
}

for (const [name, phantom] of Object.entries({ head: HEAD, abdomen: ABDOMEN })) {
  const file = join(ROOT, 'src/web/samples', `${name}.nii.gz`)
  const packed = gzipSync(nifti(phantom, paint(phantom)), { level: 9 })
  writeFileSync(file, packed)
  process.stderr.write(`${file}: ${Math.round(packed.length / 1024)} KiB\n`)
}
