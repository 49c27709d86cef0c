/**
 * A CT of 512x512x400 on its way into a session, raw, gzipped and as a zip of DICOM, and a label map of that size on its way
 * out, beside the field's own tools:
 *
 *   npm run build && npx tsx bench/sessions/run.ts [ROUNDS]
 *
 * Needs dcm2niix, unzip, ../shared/data and Python with pydicom and nibabel (AIDANT_PYTHON). Ours is from the first byte sent
 * to the last of the reply, on a tool runner that is up; nibabel's is one read or one write in a process that is up.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { form } from '../../test/helpers/multipart.js'
import { sharedData } from '../../test/helpers/shared-data.js'
import { publish, startCompiledServer } from '../compiled-server.js'
import { record } from '../record.js'
import { send } from '../send.js'

const ROUNDS = Number(process.argv[2] ?? 5)
const SLICES = 400
const CT = `a CT of 512x512x${SLICES}`
const python = process.env.AIDANT_PYTHON ?? 'python3'

const root = mkdtempSync(join(tmpdir(), 'bench-sessions-'))
const here = (name: string) => fileURLToPath(new URL(name, import.meta.url))
const run = (program: string, ...args: string[]) => execFileSync(program, args, { stdio: 'ignore' })
const median = (list: readonly number[]) => list.toSorted((a, b) => a - b)[list.length >> 1]!

const [files, zip, unzipped, converted] = ['files', 'series.zip', 'unzipped', 'converted'].map((n) => join(root, n))
const source = join(sharedData ?? '', 'dicom', 'ts_ct20_raw')
run(python, here('../dicom/make_series.py'), source, files!, zip!, String(SLICES))
mkdirSync(join(root, 'nifti'))
run('dcm2niix', '-z', 'n', '-f', 'ct', '-o', join(root, 'nifti'), files!)
const nifti = join(root, 'nifti', readdirSync(join(root, 'nifti')).find((name) => name.endsWith('.nii'))!)
writeFileSync(`${nifti}.gz`, gzipSync(readFileSync(nifti)))

const server = await startCompiledServer(join(root, 'workspace'))
const params = { name: 'params', body: '{}' }
const ask = (method: string, path: string, body = form([params])) => send(method, `${server.url}${path}`, body)

async function put(body: ReturnType<typeof form>): Promise<string> {
  return (JSON.parse((await ask('PUT', '/session/', body)).toString()) as { session_id: string }).session_id
}

const imageOf = (file: string) => form([params, { name: 'image', body: readFileSync(file), filename: basename(file) }])

async function timed(work: () => unknown): Promise<number> {
  const start = performance.now()
  await work()
  return (performance.now() - start) / 1000
}

const reference = (what: string, file: string) => () =>
  median(JSON.parse(execFileSync(python, [here('reference.py'), what, file, '1'], { encoding: 'utf8' })) as number[])

const uploads = [
  { work: `PUT /session/ of ${CT} as .nii`, file: nifti, against: 'nibabel reads it', peer: reference('read', nifti) },
  {
    work: 'the same as .nii.gz',
    file: `${nifti}.gz`,
    against: 'nibabel reads it',
    peer: reference('read', `${nifti}.gz`),
  },
  {
    work: 'the same as a zip of DICOM',
    file: zip!,
    against: 'unzip, then dcm2niix',
    peer: () =>
      timed(() => {
        for (const folder of [unzipped!, converted!]) mkdirSync(folder)
        run('unzip', '-q', zip!, '-d', unzipped!)
        run('dcm2niix', '-z', 'n', '-f', 'x', '-o', converted!, unzipped!)
        for (const folder of [unzipped!, converted!]) rmSync(folder, { recursive: true })
      }),
  },
]

try {
  const show = (work: string, ours: number[], against: string, other: number[]) => {
    const [mine, theirs] = [median(ours), median(other)]
    console.log(`${work}: ${mine.toFixed(2)} s; ${against}: ${theirs.toFixed(2)} s; ${(mine / theirs).toFixed(2)} x`)
    record({ work, unit: 's', ours: mine, against, other: theirs, compared: 'ratio' })
  }
  for (const { work, file, against, peer } of uploads) {
    const upload = imageOf(file)
    const [ours, other]: [number[], number[]] = [[], []]
    // the first finds no tool runner
    await ask('DELETE', `/session/${await put(upload)}`)
    for (let round = 0; round < ROUNDS; round++) {
      let id = ''
      ours.push(await timed(async () => (id = await put(upload))))
      await ask('DELETE', `/session/${id}`)
      other.push(await peer())
    }
    show(work, ours, against, other)
  }

  await publish(server.url, 'quick', 'threshold')
  const id = await put(imageOf(nifti))
  const segment = () => ask('POST', `/v1/segmentation?model=quick&output=image&session_id=${id}`)
  await segment()
  const [ours, other]: [number[], number[]] = [[], []]
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await timed(segment))
    other.push(reference('write', nifti)())
  }
  show(`a label map of that size, warm, its network next to nothing`, ours, 'nibabel writes one', other)
} finally {
  await server.stop()
  rmSync(root, { recursive: true })
}
