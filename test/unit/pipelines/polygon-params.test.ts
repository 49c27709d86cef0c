import { describe, expect, it } from 'vitest'
import { parseFixPolygonParams, parseMaskToPolygonParams } from '../../../src/pipelines/polygon-params.js'

const flat = { columns: 10, rows: 8, slices: 1 }
const deep = { columns: 10, rows: 8, slices: 3 }
const square = [
  [1, 1],
  [5, 1],
  [5, 6],
  [1, 6],
]
const poly = [square]
const volume = [[], [square, square], []]
const edit = { polygon_index: 0, vertex_index: 2, vertex_offset: [1, -2] }
const edit3d = { ...edit, slice_index: 1 }

describe('mask2polygon', () => {
  it.each([
    { name: 'nothing said: all points', params: {}, want: { morePoints: 0 } },
    { name: 'a number', params: { more_points: 10 }, want: { morePoints: 10 } },
    { name: 'a number in a string', params: { more_points: '10' }, want: { morePoints: 10 } },
    { name: 'camel case', params: { morePoints: 3 }, want: { morePoints: 3 } },
    { name: 'null and empty mean nothing', params: { more_points: null, label: '' }, want: { morePoints: 0 } },
    {
      name: 'a label and a tolerance',
      params: { label: 4, simplify: 0.5 },
      want: { morePoints: 0, label: 4, simplify: 0.5 },
    },
    { name: 'keys it does not know', params: { more_points: 1, result_extension: '.nii' }, want: { morePoints: 1 } },
  ])('$name', ({ params, want }) => expect(parseMaskToPolygonParams(params)).toMatchObject(want))

  it.each([
    [{ more_points: -1 }, /'more_points' -1/],
    [{ more_points: 1.5 }, /'more_points' 1.5/],
    [{ more_points: 1e12 }, /'more_points'/],
    [{ more_points: 'many' }, /'more_points' has to be a number/],
    [{ more_points: [10] }, /'more_points' has to be a number/],
    [{ more_points: true }, /'more_points' has to be a number/],
    [{ label: 0 }, /'label'/],
    [{ label: 'liver' }, /'label' has to be a number/],
    [{ simplify: -1 }, /'simplify'/],
    [{ simplify: '1e400' }, /'simplify' has to be a number/],
  ])('%j is refused by name', (params, message) => {
    expect(() => parseMaskToPolygonParams(params)).toThrow(
      expect.objectContaining({ code: 'BAD_PARAMS', message: expect.stringMatching(message) }),
    )
  })
})

describe('the forms of fixpolygon', () => {
  const moved = square.with(2, [6, 4])

  it.each([
    { name: 'poly and vertex_offset', params: { poly, ...edit } },
    { name: 'prev_poly and vertex_offset', params: { prev_poly: poly, ...edit } },
    { name: 'both and vertex_offset: prev_poly is what was', params: { prev_poly: poly, poly: [moved], ...edit } },
    { name: 'prev_poly and the edited poly', params: { prev_poly: poly, poly: [moved], ...edit, vertex_offset: null } },
    {
      name: 'the first version in camel case',
      params: { prevPoly: poly, poly: [moved], polygonIndex: 0, vertexIndex: 2 },
    },
    {
      name: 'camel case throughout',
      params: { poly, polygonIndex: 0, vertexIndex: 2, vertexOffset: [1, -2], propagateNeighbor: 1 },
    },
    {
      name: 'JSON text inside strings',
      params: { poly: JSON.stringify(poly), polygon_index: '0', vertex_index: '2', vertex_offset: '[1, -2]' },
    },
    { name: 'the dimension said as well', params: { dimension: 2, poly, ...edit } },
  ])('$name', ({ params }) => {
    const read = parseFixPolygonParams(params, flat)
    expect(read.edit).toEqual({ slice: 0, polygon: 0, vertex: 2, offset: [1, -2], neighbours: 1, sliceNeighbours: 0 })
    expect([...read.slices[0]![0]!]).toEqual(square.flat())
    expect(read.dimension).toBe(2)
  })

  it('takes other edits of an edited poly as the client made them', () => {
    const other = moved.with(0, [2, 2])
    const { slices } = parseFixPolygonParams(
      { prev_poly: poly, poly: [other], polygon_index: 0, vertex_index: 2 },
      flat,
    )
    expect([...slices[0]![0]!]).toEqual([2, 2, 5, 1, 5, 6, 1, 6])
  })

  it('reads three dimensions, the windows with them', () => {
    const params = { poly: volume, ...edit3d, polygon_index: 1, propagate_neighbor: 3, propagate_neighbor_3d: 5 }
    const read = parseFixPolygonParams(params, deep)
    expect(read.dimension).toBe(3)
    expect(read.edit).toMatchObject({ slice: 1, polygon: 1, neighbours: 3, sliceNeighbours: 5 })
    expect(read.slices.map((list) => list.length)).toEqual([0, 2, 0])
  })

  it('goes by the image when no polygon has a point to tell the dimension', () => {
    expect(() => parseFixPolygonParams({ poly: [[], [], []], ...edit3d }, deep)).toThrow(
      /'slice_index' 1: 'poly' has no polygon/,
    )
  })
})

describe('malformed requests of fixpolygon are refused by field and index', () => {
  const point = (value: unknown) => ({ poly: [square.map((p, i) => (i === 3 ? value : p))], ...edit })
  it.each([
    ['no polygons', edit, /'poly' is missing/],
    ['no offset and nothing before', { poly, polygon_index: 0, vertex_index: 2 }, /'vertex_offset' is missing/],
    [
      'no offset and nothing after',
      { prev_poly: poly, polygon_index: 0, vertex_index: 2 },
      /'vertex_offset' is missing/,
    ],
    ['text that is no JSON', { ...edit, poly: '[[[1,2],[3,4]' }, /'poly' is text, but not JSON/],
    ['a word', { ...edit, poly: 5 }, /'poly'/],
    ['an object', { ...edit, poly: { a: 1 } }, /'poly' has to be a list/],
    ['a list too flat', { ...edit, poly: square }, /'poly' nests its points 2 deep/],
    ['a list too deep', { ...edit, poly: [[[[[1, 2]]]]] }, /'poly' nests its points 5 deep/],
    ['nesting that differs', { ...edit, poly: [square, [1, 2]] }, /'poly\[1\]\[0\]' is not a point/],
    ['a polygon that is a number', { ...edit, poly: [square, 7] }, /'poly\[1\]' has to be a list of points/],
    ['NaN as null', point([1, null]), /'poly\[0\]\[3\]' is not a point/],
    ['NaN', point([1, Number.NaN]), /'poly\[0\]\[3\]' is not a point/],
    ['infinity', point([1, Number.POSITIVE_INFINITY]), /'poly\[0\]\[3\]' is not a point/],
    ['text', point([1, '2']), /'poly\[0\]\[3\]' is not a point/],
    ['three coordinates', point([1, 2, 3]), /'poly\[0\]\[3\]' is not a point/],
    [
      'a negative coordinate',
      point([-1.5, 2]),
      /'poly\[0\]\[3\]' = \[-1.5, 2\] lies outside the image of 10 columns and 8 rows/,
    ],
    ['a column past the last', point([12, 2]), /'poly\[0\]\[3\]' = \[12, 2\]/],
    ['a huge coordinate', point([1, 1e300]), /'poly\[0\]\[3\]'/],
    ['no polygon index', { poly, vertex_index: 2, vertex_offset: [1, 1] }, /'polygon_index' is missing/],
    ['a polygon index out of range', { poly, ...edit, polygon_index: 1 }, /'polygon_index' 1 .* from 0 to 0/],
    ['a negative polygon index', { poly, ...edit, polygon_index: -1 }, /'polygon_index' -1/],
    ['no vertex index', { poly, polygon_index: 0, vertex_offset: [1, 1] }, /'vertex_index' is missing/],
    ['a vertex index out of range', { poly, ...edit, vertex_index: 4 }, /'vertex_index' 4 .* from 0 to 3/],
    ['half a vertex index', { poly, ...edit, vertex_index: 0.5 }, /'vertex_index' 0.5/],
    [
      'a camel-case index out of range',
      { poly, polygonIndex: 0, vertexIndex: 9, vertexOffset: [0, 1] },
      /'vertexIndex' 9/,
    ],
    ['an offset of one number', { poly, ...edit, vertex_offset: [1] }, /'vertex_offset' has to be/],
    ['an offset that is no number', { poly, ...edit, vertex_offset: [1, 'x'] }, /'vertex_offset' has to be/],
    [
      'an offset off the image',
      { poly, ...edit, vertex_offset: [7, 0] },
      /'vertex_offset' \[7, 0\] takes the vertex to \[12, 6\]/,
    ],
    ['a window of less than nothing', { poly, ...edit, propagate_neighbor: -1 }, /'propagate_neighbor' -1/],
    ['a dimension of four', { poly, ...edit, dimension: 4 }, /'dimension' has to be 2 or 3/],
    [
      'vertex counts that differ',
      { poly, prev_poly: [square.slice(1)], ...edit, vertex_index: 2, vertex_offset: null },
      /'poly\[0\]' has 4 vertices, 'prev_poly\[0\]' has 3/,
    ],
    [
      'polygon counts that differ',
      { poly, prev_poly: [square, square], ...edit, vertex_offset: null },
      /'poly' has 1 polygons, 'prev_poly' has 2/,
    ],
    ['a polygon without vertices', { ...edit, poly: [[], square] }, /'polygon_index' 0: the polygon has no vertex/],
  ])('%s', (_name, params, message) => {
    expect(() => parseFixPolygonParams(params, flat)).toThrow(
      expect.objectContaining({ code: 'BAD_PARAMS', message: expect.stringMatching(message) }),
    )
  })

  it.each([
    ['a slice out of range', { poly: volume, ...edit3d, slice_index: 3 }, /'slice_index' 3 .* from 0 to 2/],
    ['a negative slice', { poly: volume, ...edit3d, slice_index: -1 }, /'slice_index' -1/],
    ['no slice', { poly: volume, ...edit }, /'slice_index' is missing/],
    [
      'a slice without polygons',
      { poly: volume, ...edit3d, slice_index: 0 },
      /'slice_index' 0: 'poly' has no polygon there/,
    ],
    ['an image of another size', { poly: [...volume, []], ...edit3d }, /'poly' has 4 slices, but the image has 3/],
    [
      'a point outside in another slice',
      { poly: [[], [square], [[[0, 80]]]], ...edit3d },
      /'poly\[2\]\[0\]\[0\]' = \[0, 80\]/,
    ],
    ['two dimensions for a volume', { poly, ...edit }, /'dimension' is 2, but the image has 3 slices/],
    ['a slice that is no list', { poly: [[], [square], 'x'], ...edit3d }, /'poly\[2\]' has to be a list of polygons/],
  ])('%s, in 3-D', (_name, params, message) => {
    expect(() => parseFixPolygonParams(params, deep)).toThrow(
      expect.objectContaining({ code: 'BAD_PARAMS', message: expect.stringMatching(message) }),
    )
  })
})

describe('vertices up to a pixel outside are put onto the edge, with a note', () => {
  it.each([
    { name: 'the very edge of the last pixel', at: [10, 8], on: [9, 7] },
    { name: 'a fraction of a pixel outside', at: [-0.4, 3.5], on: [0, 3.5] },
    { name: 'a fraction beyond the edge', at: [4, 8.4], on: [4, 7] },
    { name: 'a whole pixel outside', at: [-1, 9], on: [0, 7] },
  ])('$name', ({ at, on }) => {
    const { slices, nested, notes } = parseFixPolygonParams({ poly: [[at, ...square.slice(1)]], ...edit }, flat)
    expect(Array.from(slices[0]![0]!).slice(0, 2)).toEqual(on)
    expect(nested[0]![0]![0]).toEqual(at)
    expect(notes).toEqual(['1 vertex lay up to a pixel outside the image and was put onto its edge'])
  })

  it('and so is the vertex that is dragged there', () => {
    const { edit: read, notes } = parseFixPolygonParams({ poly, ...edit, vertex_offset: [4.5, 0] }, flat)
    expect(read.offset).toEqual([4, 0])
    expect(notes).toHaveLength(1)
  })

  it('none is said of vertices inside', () => {
    expect(parseFixPolygonParams({ poly, ...edit }, flat).notes).toEqual([])
  })
})

describe('a ring closed by its first vertex said again', () => {
  const ring = [...square, square[0]!]
  const there = { poly: [ring], polygon_index: 0, vertex_offset: [1, 2] }

  it.each([0, 4])('is one corner, moved as vertex %i', (vertex_index) => {
    const { slices, closed, edit: read } = parseFixPolygonParams({ ...there, vertex_index }, flat)
    expect(Array.from(slices[0]![0]!)).toEqual(square.flat())
    expect(closed).toEqual([[true]])
    expect(read).toMatchObject({ vertex: 0, offset: [1, 2] })
  })

  it('has no vertex beyond the doubled one', () => {
    expect(() => parseFixPolygonParams({ ...there, vertex_index: 5 }, flat)).toThrow(/'vertex_index' 5 .* from 0 to 4/)
  })

  it.each([
    { name: 'its first', vertex_index: 0, edited: [[3, 4], ...square.slice(1), square[0]] },
    { name: 'its last', vertex_index: 4, edited: [...square, [3, 4]] },
  ])('was edited by $name vertex', ({ vertex_index, edited }) => {
    const read = parseFixPolygonParams({ poly: [edited], prev_poly: [ring], polygon_index: 0, vertex_index }, flat)
    expect(Array.from(read.slices[0]![0]!)).toEqual(square.flat())
    expect(read.edit.offset).toEqual([3 - square[0]![0]!, 4 - square[0]![1]!])
    expect(read.closed).toEqual([[true]])
  })
})
