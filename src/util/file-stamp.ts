import { stat } from 'node:fs/promises'

/**
 * What changes when one of the files does: which file it is, its size, and when it was written. A path may be a link whose
 * target is exchanged, as Kubernetes mounts secrets. A file that is not there has a stamp as well.
 */
export async function stampOf(paths: readonly string[]): Promise<string> {
  const stamps = await Promise.all(
    paths.map(async (path) => {
      const found = await stat(path, { bigint: true }).catch(() => undefined)
      return found ? [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':') : 'none'
    }),
  )
  return stamps.join(' ')
}
