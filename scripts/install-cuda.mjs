/**
 * `node scripts/install-cuda.mjs`: gives onnxruntime-node its CUDA provider (CUDA 13, cuDNN 9; Linux x64).
 *
 * onnxruntime-node comes from npm without it. The same libraries, built from the same release, are in another npm
 * package; two of them are copied beside libonnxruntime.so.1. `npm ci` takes them away again: run this after it.
 * The machine itself must have the NVIDIA driver, CUDA 13 and cuDNN 9 on its library path.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const PACKAGE = 'com.github.asus4.onnxruntime.linux-x64-gpu@0.4.9'
const SHA512 = 'FopIhNE/Ng+v2X65wVc9clPCBCvhvA53Hxo2U0Kf5fGdVsC7iCA+mZ0KLWggcQAj7TIZ6pNidR4AC10g74Xo6w=='
const MADE_FOR = '1.29.0'
const LIBRARIES = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so']

/** Another copy of onnxruntime-node may be named as the first argument. */
const runtime = process.argv[2] ?? fileURLToPath(new URL('../node_modules/onnxruntime-node', import.meta.url))

try {
  install()
} catch (error) {
  process.stderr.write(`${error.message}\n`)
  process.exitCode = 1
}

function install() {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    throw new Error(`the CUDA provider exists for Linux on x64; this is ${process.platform} on ${process.arch}`)
  if (!existsSync(join(runtime, 'package.json'))) throw new Error('onnxruntime-node is not installed: run npm ci first')
  const { version } = JSON.parse(readFileSync(join(runtime, 'package.json'), 'utf8'))
  if (version !== MADE_FOR) throw new Error(`the provider is for onnxruntime ${MADE_FOR}, and ${version} is installed`)
  const folder = mkdtempSync(join(tmpdir(), 'aidant-cuda-'))
  try {
    fetchInto(folder)
    const from = join(folder, 'package', 'Plugins', 'Linux', 'x64')
    for (const library of LIBRARIES) copyFileSync(join(from, library), join(runtime, 'bin/napi-v6/linux/x64', library))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  say('the CUDA provider is installed; the log of `npm start -- --device cuda` says whether it loads')
}

function fetchInto(folder) {
  say(`fetching ${PACKAGE} (180 MB)`)
  run('npm', ['pack', PACKAGE, '--silent', '--pack-destination', folder])
  const archive = join(folder, `${PACKAGE.replace('@', '-')}.tgz`)
  const found = createHash('sha512').update(readFileSync(archive)).digest('base64')
  if (found !== SHA512) throw new Error('the package is not the one this script knows; nothing was installed')
  run('tar', ['-xzf', archive, '-C', folder])
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  if (error || status !== 0) throw new Error(`${command} failed; nothing was installed`)
}

function say(text) {
  process.stdout.write(`${text}\n`)
}
