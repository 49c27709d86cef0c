/** `npm run package`, installed from the tarball into an empty folder, labels a scan there. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folder = mkdtempSync(join(tmpdir(), 'aidant-package-smoke-'))

function run(program, words, cwd) {
  const { status, stderr, stdout } = spawnSync(program, words, { cwd, encoding: 'utf8' })
  if (status !== 0) throw new Error(`${program} ${words.join(' ')} ended with ${status}:\n${stdout}\n${stderr}`)
  return stdout
}

/** A NIfTI of 48 x 56 x 40 voxels: a bright ball in a ramp. */
function scan() {
  const [nx, ny, nz] = [48, 56, 40]
  const bytes = Buffer.alloc(352 + nx * ny * nz)
  bytes.writeInt32LE(348, 0)
  for (const [i, n] of [3, nx, ny, nz, 1, 1, 1, 1].entries()) bytes.writeInt16LE(n, 40 + 2 * i)
  bytes.writeInt16LE(2, 70)
  bytes.writeInt16LE(8, 72)
  for (const i of [0, 1, 2, 3]) bytes.writeFloatLE(1, 76 + 4 * i)
  bytes.writeFloatLE(352, 108)
  bytes.writeInt16LE(1, 254)
  for (const row of [0, 1, 2]) bytes.writeFloatLE(1, 280 + 16 * row + 4 * row)
  bytes.write('n+1\0', 344, 'latin1')
  for (let i = 0; i < nx * ny * nz; i++) {
    const [x, y, z] = [i % nx, Math.floor(i / nx) % ny, Math.floor(i / nx / ny)]
    bytes[352 + i] = Math.hypot(x - nx / 2, y - ny / 2, z - nz / 2) < 10 ? 200 : x
  }
  return bytes
}

try {
  run('npm', ['run', '--silent', 'package', '--', '--pack-destination', folder], process.cwd())
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))
  run('npm', ['i', '-g', '--no-audit', '--no-fund', '--prefix', join(folder, 'global'), join(folder, tarball)], folder)
  const aidant = join(folder, 'global/bin/aidant')
  writeFileSync(join(folder, 'scan.nii'), scan())
  run(aidant, ['segment', 'scan.nii', '-m', 'hippocampus_mri', '-o', 'labels.nii.gz'], folder)
  if (!existsSync(join(folder, 'labels.nii.gz'))) throw new Error('no label map was written')
  console.log(`${run(aidant, ['--version'], folder).trim()} installed from ${tarball} and labelled a scan`)
} finally {
  rmSync(folder, { recursive: true })
}
