/** A file system of its own, as small as wished: a mounted tmpfs, where the tests run as a user who may mount. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** For `test.skipIf`: whether this machine lets us. */
export const mayMount = (() => {
  try {
    mountDisk(1 << 20).unmount()
    return true
  } catch {
    return false
  }
})()

export interface SmallDisk {
  readonly path: string
  unmount(): void
}

/** Mounts at `path`, or at a new folder. */
export function mountDisk(bytes: number, path?: string): SmallDisk {
  const made = path === undefined ? mkdtempSync(join(tmpdir(), 'aidant-disk-')) : undefined
  const at = path ?? made!
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', at], { stdio: 'pipe' })
  } catch (error) {
    if (made) rmSync(made, { recursive: true, force: true })
    throw error
  }
  return {
    path: at,
    unmount() {
      execFileSync('umount', ['-l', at], { stdio: 'pipe' })
      if (made) rmSync(made, { recursive: true, force: true })
    },
  }
}
