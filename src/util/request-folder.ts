/** The folder of one request under the server's tmp root: everything it uploads and computes, gone when its response ends. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

export interface RequestFolder {
  readonly path: string
  remove(): Promise<void>
}

/** Makes `<root>/<id>`; `id` is ours and new. */
export async function openRequestFolder(root: string, id: string): Promise<RequestFolder> {
  const path = join(root, id)
  try {
    await mkdir(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    await mkdir(root, { recursive: true })
    await mkdir(path)
  }
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 }) }
}
