/** OpenCV compiled for JavaScript, as an oracle. The package is untyped enough that only what is used is named here. */
import { createRequire } from 'node:module'

interface Deletable {
  delete(): void
}
interface Mat extends Deletable {
  readonly data: Uint8Array
  readonly data32S: Int32Array
}
interface MatVector extends Deletable {
  size(): number
  get(i: number): Mat
  push_back(mat: Mat): void
}
interface OpenCv {
  readonly Mat: { new (): Mat; zeros(rows: number, columns: number, type: number): Mat }
  readonly MatVector: new () => MatVector
  readonly Scalar: new (value: number) => unknown
  readonly CV_8UC1: number
  readonly CV_32SC2: number
  readonly RETR_TREE: number
  readonly CHAIN_APPROX_NONE: number
  matFromArray(rows: number, columns: number, type: number, values: ArrayLike<number>): Mat
  findContours(image: Mat, contours: MatVector, hierarchy: Mat, mode: number, method: number): void
  fillPoly(image: Mat, polygons: MatVector, colour: unknown): void
  onRuntimeInitialized?: () => void
}

export interface OpenCvOracle {
  /** [column, row] pairs of every contour, and the index of each one's parent or -1. */
  contours(mask: Uint8Array, columns: number, rows: number): { readonly rings: number[][]; readonly parents: number[] }
  fill(polygons: readonly Int32Array[], columns: number, rows: number): Uint8Array
}

export async function loadOpenCv(): Promise<OpenCvOracle> {
  const cv = createRequire(import.meta.url)('@techstark/opencv-js') as OpenCv
  if (!cv.Mat) {
    await new Promise<void>((resolve) => {
      cv.onRuntimeInitialized = resolve
    })
  }
  return {
    contours(mask, columns, rows) {
      const image = cv.matFromArray(rows, columns, cv.CV_8UC1, mask)
      const found = new cv.MatVector()
      const hierarchy = new cv.Mat()
      cv.findContours(image, found, hierarchy, cv.RETR_TREE, cv.CHAIN_APPROX_NONE)
      const rings: number[][] = []
      const parents: number[] = []
      for (let i = 0; i < found.size(); i++) {
        const contour = found.get(i)
        rings.push([...contour.data32S])
        parents.push(hierarchy.data32S[4 * i + 3]!)
        contour.delete()
      }
      for (const thing of [image, found, hierarchy]) thing.delete()
      return { rings, parents }
    },
    fill(polygons, columns, rows) {
      const image = cv.Mat.zeros(rows, columns, cv.CV_8UC1)
      const list = new cv.MatVector()
      for (const polygon of polygons) {
        const points = cv.matFromArray(polygon.length / 2, 1, cv.CV_32SC2, polygon)
        list.push_back(points)
        points.delete()
      }
      cv.fillPoly(image, list, new cv.Scalar(1))
      const filled = image.data.slice()
      image.delete()
      list.delete()
      return filled
    },
  }
}
