/** Makes node_modules what package-lock.json says, with `npm ci`, only when it is not already. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('..', import.meta.url))

/** Ends the process with a message when this Node is older than package.json allows. */
export function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > 20 || (major === 20 && minor >= 19)) return
  fail(`Aidant needs Node 20.19 or newer; this is ${process.version}. See https://nodejs.org`)
}

export function installIfNeeded() {
  checkNode()
  if (installed()) return
  process.stderr.write('Installing dependencies (npm ci) …\n')
  const status = npm(['ci', '--no-audit', '--no-fund', '--loglevel=error'])
  if (status !== 0) fail('npm ci failed; its own words are above')
}

export function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

/** Runs npm without a shell where its program file is known, which it is under `npm start` and beside Node itself. */
export function npm(args) {
  const beside = [
    join(dirname(process.execPath), 'node_modules/npm/bin/npm-cli.js'),
    join(dirname(process.execPath), '../lib/node_modules/npm/bin/npm-cli.js'),
  ]
  const program = [process.env.npm_execpath, ...beside].find((path) => path?.endsWith('.js') && existsSync(path))
  const options = { cwd: ROOT, stdio: ['ignore', 2, 2] }
  const result = program
    ? spawnSync(process.execPath, [program, ...args], options)
    : spawnSync('npm', args, { ...options, shell: process.platform === 'win32' })
  return result.status ?? 1
}

/** True when every package that the lock file asks of this platform is there in that version. */
function installed() {
  const wanted = readLock('package-lock.json')
  const present = readLock('node_modules/.package-lock.json')
  if (!present) return false
  return Object.entries(wanted ?? {}).every(([path, entry]) => {
    if (path === '' || entry.link) return true
    const there = present[path]
    return there ? there.version === entry.version : entry.optional === true || entry.devOptional === true
  })
}

function readLock(path) {
  const file = join(ROOT, path)
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : undefined
}
