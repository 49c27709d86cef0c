/** `npm test`: installs and builds what is missing, then runs the tests; everything after `--` goes to vitest. */
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { buildIfNeeded } from './build.mjs'
import { installIfNeeded, ROOT } from './install.mjs'

installIfNeeded()
buildIfNeeded()
const vitest = join(dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs')
const { status, signal } = spawnSync(process.execPath, [vitest, 'run', ...process.argv.slice(2)], {
  cwd: ROOT,
  stdio: 'inherit',
})
process.exit(signal ? 1 : (status ?? 1))
