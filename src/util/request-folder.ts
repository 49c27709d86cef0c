/** The folder of one request under the server's tmp root: everything it uploads and computes, gone when its response ends. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '../errors.js'

export interface RequestFolder {
  readonly path: string
  remove(): Promise<void>
}

/** Makes `<root>/<id>`. Rejects BUSY_NAME when a request of that id is under way. */
export async function openRequestFolder(root: string, id: string): Promise<RequestFolder> {
  const path = join(root, id)
  await mkdir(root, { recursive: true })
  try {
    await mkdir(path)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause
    throw new AppError('BUSY_NAME', `a request with the id '${id}' is under way`, {
      cause,
      hint: 'give every request its own X-Request-Id, or none',
    })
  }
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 100 }) }
}
