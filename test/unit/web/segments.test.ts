/** What the page does to voxels, away from any screen. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { readVolume } from '../../../src/formats/read-volume.js'
import { LabelMap } from '../../../src/web/label-map.js'
import { fillHoles, keepLargest, line, stamp } from '../../../src/web/morphology.js'
import { parseReply } from '../../../src/web/multipart.js'
import { segNrrd } from '../../../src/web/seg-nrrd.js'
import { Store } from '../../../src/web/store.js'

/** Rows of a slice, x to the right, one slice after another. */
const labels = (...rows: readonly string[]) => Uint8Array.from(rows.join('').replaceAll('.', '0'), Number)

test.each([
  ['a ring is filled', ['.....', '.111.', '.1.1.', '.111.', '.....'], 1],
  ['a ring that is open at a side is not', ['.....', '.111.', '.1...', '.111.', '.....'], 0],
  ['a hole that another segment fills stays its own', ['.....', '.111.', '.121.', '.111.', '.....'], 0],
  ['a hole at a corner of the box is background', ['1111.', '1..1.', '1111.', '.....', '.....'], 2],
] as const)('fill holes: %s', (_name, rows, filled) => {
  const map = labels(...rows)
  expect(fillHoles(map, [5, 5, 1], 1, 2)).toBe(filled)
  expect(map.filter((label) => label === 1).length).toBe(rows.join('').split('1').length - 1 + filled)
})

test('largest piece: the others are cleared, and other segments are left', () => {
  const map = labels('11.22', '11...', '...11')
  expect(keepLargest(map, [5, 3, 1], 1)).toBe(2)
  expect(map).toEqual(labels('11.22', '11...', '.....'))
})

test('a disc has its radius in millimetres in each axis, and a ball its own in the third', () => {
  const reached = (across: 0 | 1 | 2 | undefined) => {
    const most = [0, 0, 0]
    stamp([10, 10, 10], { radius: 6, spacing: [1, 2, 3], across }, [21, 21, 21], (...voxel) => {
      voxel.forEach((v, axis) => {
        most[axis] = Math.max(most[axis]!, Math.abs(v - 10))
      })
    })
    return most
  }
  expect(reached(2)).toEqual([6, 3, 0])
  expect(reached(undefined)).toEqual([6, 3, 2])
})

test('a stroke leaves no gap', () => {
  const point = fc.tuple(fc.nat(50), fc.nat(50), fc.nat(50))
  fc.assert(
    fc.property(point, point, (from, to) => {
      const points = line(from, to)
      expect(points[0]).toEqual(from)
      expect(points.at(-1)).toEqual(to)
      for (let i = 1; i < points.length; i++)
        for (const axis of [0, 1, 2] as const) expect(Math.abs(points[i]![axis] - points[i - 1]![axis])).toBeLessThan(2)
    }),
  )
})

test('undo takes back every change, and redo makes them again', () => {
  const size = [6, 5, 4] as const
  const edit = fc.record({
    from: fc.tuple(fc.nat(5), fc.nat(4), fc.nat(3)),
    to: fc.tuple(fc.nat(5), fc.nat(4), fc.nat(3)),
    label: fc.nat(255),
    active: fc.nat(3),
  })
  fc.assert(
    fc.property(fc.array(edit, { maxLength: 12 }), (edits) => {
      const store = new Store()
      store.reset(new LabelMap(size))
      const states = [{ doc: store.doc, data: store.labels.data.slice() }]
      for (const { from, to, label, active } of edits) {
        const low = (axis: 0 | 1 | 2) => Math.min(from[axis], to[axis])
        const high = (axis: 0 | 1 | 2) => Math.max(from[axis], to[axis])
        const box = { min: [low(0), low(1), low(2)], max: [high(0), high(1), high(2)] } as const
        store.change('paint', { active }, { box, labels: store.labels.read(box).fill(label) })
        states.push({ doc: store.doc, data: store.labels.data.slice() })
      }
      const now = () => ({ doc: store.doc, data: store.labels.data.slice() })
      for (const state of states.slice(0, -1).reverse()) {
        store.undo()
        expect(now()).toEqual(state)
      }
      expect(store.undo()).toBeUndefined()
      for (const state of states.slice(1)) {
        store.redo()
        expect(now()).toEqual(state)
      }
    }),
  )
})

test('a reply is taken apart whatever bytes its file holds', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.jsonValue(), (file, value) => {
      const head = '--b-1\r\nContent-Disposition: form-data; name="params"\r\n\r\n'
      const middle =
        '\r\n--b-1\r\nContent-Disposition: form-data; name="file"; filename="aas_result.nii.gz"\r\n' +
        'Content-Type: application/octet-stream\r\n\r\n'
      const text = JSON.stringify({ value })
      const body = Buffer.concat([Buffer.from(head + text + middle), file, Buffer.from('\r\n--b-1--\r\n')])
      const copy = Uint8Array.from(body).buffer
      const parts = parseReply(copy, 'multipart/form-data; boundary=b-1')
      expect(JSON.stringify(parts.params)).toBe(text)
      expect(Buffer.from(parts.file!)).toEqual(Buffer.from(file))
    }),
  )
})

test('a .seg.nrrd lies where the scan lies, with its labels as they are', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'aidant-seg-'))
  try {
    const map = new LabelMap([3, 4, 2])
    map.data.set([1, 1, 2], 5)
    const affine = Float64Array.from([0, -2, 0, 40, 0, 0, 3, -10, 1.5, 0, 0, 7, 0, 0, 0, 1])
    const segments = [1, 2].map((id) => ({ id, name: `part ${id}`, color: '#ff8000', visible: true }))
    const path = join(folder, 'x.seg.nrrd')
    await writeFile(path, new Uint8Array(await (await segNrrd(map, affine, segments)).arrayBuffer()))
    const { volume } = await readVolume([path], { maxVolumeBytes: 1e6, maxVoxels: 1e6 })
    expect([...volume.size]).toEqual([3, 4, 2])
    expect([...volume.affine].map((v) => v + 0)).toEqual([...affine])
    expect([...volume.data]).toEqual([...map.data])
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
