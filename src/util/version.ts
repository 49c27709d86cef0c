import { readFileSync } from 'node:fs'

interface Manifest {
  readonly version: string
  readonly engines: { readonly node: string }
}

/** package.json lies two folders above this file in src/ and in dist/ alike. */
function readManifest(): Manifest {
  return JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as Manifest
}

export function readVersion(): string {
  return readManifest().version
}

/** The oldest Node that this runs on, major and minor. */
export function oldestNode(): readonly [number, number] {
  const [, major, minor = '0'] = /(\d+)(?:\.(\d+))?/.exec(readManifest().engines.node)!
  return [Number(major), Number(minor)]
}
