/** An ONNX file of an upload, and what lies beside it. */
import { posix } from 'node:path'
import type { UnzippedFile } from '../util/unzip.js'
import type { ModelFile } from './weights-store.js'

/** An ONNX file, and the files beside it that may hold its external data. */
export interface OnnxFiles {
  readonly path: string
  readonly beside: readonly ModelFile[]
}

/** The other files by their name relative to the ONNX file's folder. */
export function onnxFiles(chosen: UnzippedFile, files: readonly UnzippedFile[]): OnnxFiles {
  const root = posix.dirname(chosen.entryName)
  const prefix = root === '.' ? '' : `${root}/`
  const beside = files
    .filter((file) => file !== chosen && file.entryName.startsWith(prefix))
    .map((file) => ({ name: file.entryName.slice(prefix.length), path: file.path }))
  return { path: chosen.path, beside }
}
