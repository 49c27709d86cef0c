/**
 * `npm run package`: builds, and packs aidant-VERSION.tgz, which `npm i -g` installs anywhere. It brings onnxruntime-node
 * along, as installed and tested here, without its install script: that would fetch a CUDA provider that does not fit
 * (scripts/install-cuda.mjs brings the one that does), and where it cannot fetch, the installation would fail.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buildIfNeeded } from './build.mjs'
import { installIfNeeded, ROOT } from './install.mjs'

/** The engine, and what it needs when it runs. */
const BUNDLED = ['onnxruntime-node', 'onnxruntime-common']
/** Beside what package.json's `files` names; npm packs these of itself. */
const ALWAYS = ['README.md', 'LICENSE', 'NOTICE']

installIfNeeded()
buildIfNeeded()
const stage = mkdtempSync(join(tmpdir(), 'aidant-package-'))
try {
  const { devDependencies: _dev, scripts: _scripts, allowScripts: _allow, ...manifest } = readJson('package.json')
  const named = manifest.files.filter((entry) => !entry.startsWith('!'))
  for (const entry of [...named, ...ALWAYS]) cpSync(join(ROOT, entry), join(stage, entry), { recursive: true })
  for (const name of BUNDLED) {
    const folder = join('node_modules', name)
    cpSync(join(ROOT, folder), join(stage, folder), { recursive: true })
    const { scripts: _install, devDependencies: _unused, ...engine } = readJson(join(folder, 'package.json'))
    const dependencies = Object.entries(engine.dependencies ?? {}).filter(([other]) => BUNDLED.includes(other))
    writeJson(join(folder, 'package.json'), { ...engine, dependencies: Object.fromEntries(dependencies) })
  }
  writeJson('package.json', { ...manifest, bundledDependencies: BUNDLED, dependencies: withEngine(manifest) })
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
  const words = ['pack', '--pack-destination', ROOT, ...process.argv.slice(2)]
  const { status } = spawnSync(npm, words, { cwd: stage, stdio: 'inherit', shell: process.platform === 'win32' })
  process.exitCode = status ?? 1
} finally {
  rmSync(stage, { recursive: true })
}

/** A bundled package is one that the manifest names. */
function withEngine({ dependencies }) {
  const common = readJson('node_modules/onnxruntime-common/package.json').version
  return { ...dependencies, 'onnxruntime-common': common }
}

function readJson(path) {
  return JSON.parse(readFileSync(join(ROOT, path), 'utf8'))
}

function writeJson(path, value) {
  writeFileSync(join(stage, path), `${JSON.stringify(value, undefined, 2)}\n`)
}
