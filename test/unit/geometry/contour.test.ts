import { expect, it } from 'vitest'
import { findContours } from '../../../src/geometry/contour.js'

/** Contours of a picture of dots and hashes, as [column, row] pairs, each with the index of its parent. */
function contoursOf(picture: string) {
  const lines = picture
    .trim()
    .split('\n')
    .map((line) => line.trim())
  const columns = lines[0]!.length
  const mask = Uint8Array.from(lines.join(''), (pixel) => (pixel === '#' ? 1 : 0))
  const { count, points, starts, lengths, parents } = findContours(mask, columns, lines.length)
  return Array.from({ length: count }, (_, i) => ({
    parent: parents[i],
    points: Array.from({ length: lengths[i]! }, (_, k) => [
      ...points.subarray(2 * (starts[i]! + k), 2 * (starts[i]! + k) + 2),
    ]).join(' '),
  }))
}

it.each([
  { name: 'nothing', picture: '...\n...', want: [] },
  { name: 'one pixel in the corner', picture: '..\n.#', want: [{ parent: -1, points: '1,1' }] },
  {
    name: 'a block, counter-clockwise from its top left pixel',
    picture: '##\n##',
    want: [{ parent: -1, points: '0,0 0,1 1,1 1,0' }],
  },
  {
    name: 'a line, out and back',
    picture: '.....\n.###.',
    want: [{ parent: -1, points: '1,1 2,1 3,1 2,1' }],
  },
  {
    name: 'a diagonal is one structure',
    picture: '#..\n.#.\n..#',
    want: [{ parent: -1, points: '0,0 1,1 2,2 1,1' }],
  },
  {
    name: 'of two, the one found last comes first',
    picture: '#.#',
    want: [
      { parent: -1, points: '2,0' },
      { parent: -1, points: '0,0' },
    ],
  },
  {
    name: 'a hole follows its border, from the pixel to its left, and an island follows the hole',
    picture: `
      #######
      #.....#
      #..#..#
      #.....#
      #######`,
    want: [
      {
        parent: -1,
        points: '0,0 0,1 0,2 0,3 0,4 1,4 2,4 3,4 4,4 5,4 6,4 6,3 6,2 6,1 6,0 5,0 4,0 3,0 2,0 1,0',
      },
      {
        parent: 0,
        points: '0,1 1,0 2,0 3,0 4,0 5,0 6,1 6,2 6,3 5,4 4,4 3,4 2,4 1,4 0,3 0,2',
      },
      { parent: 1, points: '3,2' },
    ],
  },
])('$name', ({ picture, want }) => expect(contoursOf(picture)).toEqual(want))
