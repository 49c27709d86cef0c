/** `npm run build`: src/ to dist/, whole or not at all. Imported by the other scripts, it builds only when src/ has changed. */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fail, installIfNeeded, ROOT } from './install.mjs'

const DIST = join(ROOT, 'dist')
const STAMP = join(DIST, '.inputs')

export function buildIfNeeded() {
  const inputs = fingerprint()
  if (existsSync(STAMP) && readFileSync(STAMP, 'utf8') === inputs) return
  build(inputs)
}

function build(inputs) {
  process.stderr.write('Building …\n')
  const fresh = join(ROOT, `dist.${process.pid}.part`)
  const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc')
  // The page runs in browsers: other libraries, other globals.
  const projects = [
    ['tsconfig.build.json', fresh],
    ['src/web/tsconfig.json', join(fresh, 'web')],
  ]
  for (const [project, outDir] of projects) {
    const args = [tsc, '-p', project, '--noEmit', 'false', '--outDir', outDir]
    const { status } = spawnSync(process.execPath, args, { cwd: ROOT, stdio: ['ignore', 2, 2] })
    if (status === 0) continue
    rmSync(fresh, { recursive: true, force: true })
    fail('the build failed; the errors are above')
  }
  for (const file of sources()) {
    if (file.endsWith('.ts')) continue
    const target = join(fresh, relative(join(ROOT, 'src'), file))
    mkdirSync(dirname(target), { recursive: true })
    cpSync(file, target)
  }
  writeFileSync(join(fresh, '.inputs'), inputs)
  const old = join(ROOT, `dist.${process.pid}.old`)
  if (existsSync(DIST)) renameSync(DIST, old)
  renameSync(fresh, DIST)
  rmSync(old, { recursive: true, force: true })
}

/** Changes when a source file is added, removed or edited, or the compiler or its settings change. */
function fingerprint() {
  const hash = createHash('sha256')
  for (const file of [
    ...sources(),
    ...['tsconfig.json', 'tsconfig.build.json', 'package-lock.json'].map((name) => join(ROOT, name)),
  ]) {
    const { size, mtimeMs } = statSync(file)
    hash.update(`${relative(ROOT, file)} ${size} ${mtimeMs}\n`)
  }
  return hash.digest('hex')
}

function sources() {
  return readdirSync(join(ROOT, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  installIfNeeded()
  build(fingerprint())
}
