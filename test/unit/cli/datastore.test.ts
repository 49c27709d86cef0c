/** `aidant datastore`: what goes out by export comes in by import, whatever the images are called. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { Command } from 'commander'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { addDatastoreCommands } from '../../../src/cli/commands/datastore.js'
import type { ToolJob } from '../../../src/contract/job.js'
import { readDicomSeries } from '../../../src/formats/dicom-series.js'
import { readVolume } from '../../../src/formats/read-volume.js'
import { runTool } from '../../../src/pipelines/run-tool.js'
import { dicomFixtures } from '../../helpers/dicom-fixtures.js'
import { type Answer, labelMap } from '../../helpers/fake-scheduler.js'
import { idleControl } from '../../helpers/pipeline.js'
import { type TestApp, testApp } from '../../helpers/test-app.js'
import { niftiFile, roomyLimits, volumeOf } from '../../helpers/volumes.js'

const answer: Answer = (job, signal, onProgress) =>
  job.kind !== 'inference' ? runTool(job as ToolJob, idleControl) : labelMap(job, signal, onProgress)

let root: string
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'aidant-export-'))
})
afterEach(async () => {
  process.exitCode = 0
  await rm(root, { recursive: true, force: true })
})

/** Runs `aidant datastore ...` against the application; gives the lines it printed. */
async function aidant(app: TestApp & { port: number }, ...words: string[]): Promise<string[]> {
  const lines: string[] = []
  const program = new Command().exitOverride()
  addDatastoreCommands(program, (line) => lines.push(line))
  await program.parseAsync(['node', 'aidant', 'datastore', ...words, '--server', `http://127.0.0.1:${app.port}`])
  return lines
}

async function served(name: string) {
  const app = await testApp({ answer, flags: ['--datastore', join(root, name)] })
  return Object.assign(app, { port: await app.listen() })
}

/** A folder as MONAI Label leaves it: two images, one of them with a label. */
async function monaiFolder(): Promise<string> {
  const folder = join(root, 'given')
  await mkdir(join(folder, 'labels', 'final'), { recursive: true })
  await niftiFile(folder, volumeOf([4, 3, 2]), 'a.nii.gz')
  await niftiFile(folder, volumeOf([4, 3, 2], { value: (i) => 2 * i }), 'b.x.nii.gz')
  await niftiFile(join(folder, 'labels', 'final'), volumeOf([4, 3, 2], { value: (i) => i % 2 }), 'a.nii.gz')
  return folder
}

test('import, list, export and import again give the same files and list', async () => {
  await using app = await served('one')
  const given = await monaiFolder()
  expect(await aidant(app, 'import', given)).toEqual(['2 images and 1 labels stored'])
  const put = await fetch(`http://127.0.0.1:${app.port}/datastore/?image=${encodeURIComponent('../Dr. X / 1')}`, {
    method: 'PUT',
    body: await readFile(join(given, 'a.nii.gz')),
    headers: { 'content-type': 'application/octet-stream' },
  })
  expect(put.status).toBe(200)
  const listed = await aidant(app, 'list')
  expect(listed[0]).toMatch(/^IMAGE +FORMAT +SIZE +VERSIONS +LABELS$/)
  expect(listed[1]).toMatch(/^a +nifti +4x3x2 +2 +final$/)

  const out = join(root, 'out')
  expect(await aidant(app, 'export', out)).toEqual([`3 images and 1 labels in ${out}`])
  const names = await readdir(out)
  expect(names).toEqual(expect.arrayContaining(['a.nii.gz', 'b.x.nii.gz', 'datastore_v2.json', 'labels']))
  expect(names.find((name) => name.includes('Dr'))).toMatch(/^[A-Za-z0-9._-]+\.nii\.gz$/)
  for (const name of ['a.nii.gz', 'labels/final/a.nii.gz'])
    expect((await readFile(join(out, name))).equals(await readFile(join(given, name))), name).toBe(true)

  await using again = await served('two')
  expect(await aidant(again, 'import', out)).toEqual(['3 images and 1 labels stored'])
  const ids = (lines: string[]) =>
    lines
      .slice(1)
      .map((line) => line.split(/ {2,}/)[0])
      .sort()
  expect(ids(await aidant(again, 'list'))).toEqual(ids(listed))
})

test('BIDS derivatives: everything NIfTI, label names beside the label maps', async () => {
  await using app = await served('one')
  await aidant(app, 'import', await monaiFolder())
  const body = new FormData()
  body.append('params', JSON.stringify({ label_info: [{ name: 'left  side', idx: 1 }] }))
  body.append(
    'label',
    new Blob([new Uint8Array(await readFile(join(root, 'given', 'labels', 'final', 'a.nii.gz')))]),
    'a',
  )
  await fetch(`http://127.0.0.1:${app.port}/datastore/label?image=b.x&tag=final`, { method: 'PUT', body })
  const out = join(root, 'bids')
  await aidant(app, 'export', out, '--layout', 'bids')
  expect(JSON.parse(await readFile(join(out, 'dataset_description.json'), 'utf8'))).toMatchObject({
    DatasetType: 'derivative',
    GeneratedBy: [{ Name: 'aidant' }],
  })
  const participants = (await readFile(join(out, 'participants.tsv'), 'utf8')).trim().split('\n')
  expect(participants.slice(0, 2)).toEqual(['participant_id\timage', 'sub-a\ta'])
  const subject = participants[2]!.split('\t')[0]!
  expect(participants[2]).toMatch(/^sub-bx[0-9a-f]{12}\tb\.x$/)
  const anat = join(out, subject, 'anat')
  expect((await readdir(anat)).sort()).toEqual(
    [`${subject}_desc-final_dseg.nii.gz`, `${subject}_desc-final_dseg.tsv`, `${subject}_image.nii.gz`].sort(),
  )
  expect(await readFile(join(anat, `${subject}_desc-final_dseg.tsv`), 'utf8')).toBe('index\tname\n1\tleft side\n')
  const voxels = async (path: string) => gunzipSync(await readFile(path)).subarray(352)
  expect(
    (await voxels(join(anat, `${subject}_image.nii.gz`))).equals(await voxels(join(root, 'given', 'b.x.nii.gz'))),
  ).toBe(true)
})

test('an export writes into no folder that holds something; an import goes on after a file that is refused', async () => {
  await using app = await served('one')
  const given = await monaiFolder()
  await aidant(app, 'export', given)
  expect(process.exitCode).toBe(2)
  process.exitCode = 0
  await writeFile(join(given, 'c.nii.gz'), 'no image')
  expect(await aidant(app, 'import', given)).toEqual(['2 images and 1 labels stored'])
  expect(process.exitCode).toBe(1)
})

test('a list that names files outside its folder is refused', async () => {
  await using app = await served('one')
  const given = await monaiFolder()
  const objects = { '../secret': { image: { ext: '.nii.gz' }, labels: {} } }
  await writeFile(join(given, 'datastore_v2.json'), JSON.stringify({ objects }))
  expect(await aidant(app, 'import', given)).toEqual([])
  expect(process.exitCode).toBe(2)
  expect(await aidant(app, 'list')).toHaveLength(1)
})

test('a DICOM series goes out as a volume, with its label on the same voxels', async () => {
  await using app = await served('one')
  const fixtures = await dicomFixtures('geometry', root)
  const [image, label] = [new FormData(), new FormData()]
  for (const path of fixtures.named('oblique/'))
    image.append('file', new Blob([new Uint8Array(await readFile(path))]), 'a')
  const url = `http://127.0.0.1:${app.port}/datastore`
  expect((await fetch(`${url}/?image=ct`, { method: 'PUT', body: image })).status).toBe(200)
  const { volume } = await readDicomSeries(fixtures.named('oblique/'), roomyLimits)
  const voxels = new Uint8Array(volume.data.length)
  voxels[3] = 1
  label.append('label', new Blob([voxels]), 'label.bin')
  expect((await fetch(`${url}/label?image=ct`, { method: 'PUT', body: label })).status).toBe(200)

  const out = join(root, 'out')
  await aidant(app, 'export', out)
  const list = JSON.parse(await readFile(join(out, 'datastore_v2.json'), 'utf8'))
  expect(list.objects.ct).toMatchObject({ image: { ext: '.nii.gz' }, labels: { final: { ext: '.nii.gz' } } })
  const scan = (await readVolume([join(out, 'ct.nii.gz')], roomyLimits)).volume
  const map = (await readVolume([join(out, 'labels/final/ct.nii.gz')], roomyLimits)).volume
  expect([map.size, [...map.affine]]).toEqual([scan.size, [...scan.affine]])
  // Voxel 3 of the first row of the files is voxel 3 of the last row of the volume.
  const [columns, rows] = scan.size
  expect([map.data[3 + columns * (rows - 1)], map.data.filter(Boolean).length]).toEqual([1, 1])
})
