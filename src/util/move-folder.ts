/** A folder's move that also works from one file system to another. */
import { copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'

/**
 * Moves the folder `from` to `to`, which does not exist. It appears there whole or not at all; where that takes a copy,
 * the copy grows at `halfway`, a name beside `to` that says that it is not complete.
 */
export async function moveFolder(from: string, to: string, halfway: string): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    try {
      await copyFolder(from, halfway)
      await rename(halfway, to)
    } catch (failure) {
      await rm(halfway, { recursive: true, force: true })
      throw failure
    }
    await rm(from, { recursive: true, force: true })
  }
}

async function copyFolder(from: string, to: string): Promise<void> {
  await mkdir(to)
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) await copyFolder(source, target)
    else await copyFile(source, target)
  }
}
