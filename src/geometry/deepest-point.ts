/**
 * The voxel of a 2-D mask that lies deepest inside it, by the number of 4-connected steps to the nearest voxel outside
 * (the image's border counts as outside). `plane` holds nx x ny values, x fastest; any non-zero one is inside. Undefined
 * for an empty mask; the first in memory on a tie.
 */
export function deepestPoint(plane: ArrayLike<number>, nx: number, ny: number): [number, number] | undefined {
  const depth = new Int32Array(nx * ny)
  for (let y = 0, i = 0; y < ny; y++)
    for (let x = 0; x < nx; x++, i++) {
      if (plane[i] === 0) continue
      const left = x > 0 ? depth[i - 1]! : 0
      const up = y > 0 ? depth[i - nx]! : 0
      depth[i] = Math.min(left, up) + 1
    }
  let deepest = -1
  let best = 0
  for (let y = ny - 1, i = nx * ny - 1; y >= 0; y--)
    for (let x = nx - 1; x >= 0; x--, i--) {
      if (depth[i] === 0) continue
      const right = x < nx - 1 ? depth[i + 1]! : 0
      const down = y < ny - 1 ? depth[i + nx]! : 0
      depth[i] = Math.min(depth[i]!, Math.min(right, down) + 1)
      if (depth[i]! >= best) {
        best = depth[i]!
        deepest = i
      }
    }
  return deepest < 0 ? undefined : [deepest % nx, Math.trunc(deepest / nx)]
}
