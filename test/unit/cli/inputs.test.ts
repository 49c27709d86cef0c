import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { findInputs } from '../../../src/cli/inputs.js'
import { planOutput } from '../../../src/cli/outputs.js'
import { tempFolder } from '../../helpers/volumes.js'

const dicom = Buffer.concat([Buffer.alloc(128), Buffer.from('DICM')])

async function tree(files: Readonly<Record<string, Buffer | string>>) {
  const folder = await tempFolder()
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder.path, name, '..'), { recursive: true })
    await writeFile(join(folder.path, name), content)
  }
  return folder
}

const found = async (files: Readonly<Record<string, Buffer | string>>) => {
  await using folder = await tree(files)
  const inputs = await findInputs([folder.path])
  return inputs.map(({ name, files: parts }) => [name, parts.length])
}

test.each<[string, Record<string, Buffer | string>, [string, number][]]>([
  [
    'every image file is a scan, in the order people count',
    { 'b10.nii.gz': '', 'b9.nii': '' },
    [
      ['b9', 1],
      ['b10', 1],
    ],
  ],
  ['DICOM files of one folder are one scan, named or not', { 'ct/1.dcm': '', 'ct/IM2': dicom }, [['ct', 2]]],
  [
    'a folder of series keeps its structure',
    { 'p/a/1': dicom, 'p/b/1': dicom },
    [
      [join('p', 'a'), 1],
      [join('p', 'b'), 1],
    ],
  ],
  [
    'a header and its voxels are one scan',
    { 'x.hdr': '', 'x.img': '', 'y.mhd': '', 'y.raw': '' },
    [
      ['x', 2],
      ['y', 2],
    ],
  ],
  ['notes and hidden files are no scans', { 'a.png': '', 'README.txt': '', '.b.nii': '' }, [['a', 1]]],
])('%s', async (_sentence, files, expected) => {
  expect(await found(files)).toEqual(expected)
})

test('a folder without an image, a path that is not there and two results of one name are told before anything is done', async () => {
  await using folder = await tree({ 'notes.txt': '', 'a/x.nii': '', 'b/x.nii': '' })
  const at = (name: string) => join(folder.path, name)
  await expect(findInputs([at('nothing')])).rejects.toThrow('there is no file or folder')
  await expect(findInputs([at('a/x.nii'), at('b/x.nii')])).rejects.toThrow("one result, 'x'")
  await expect(findInputs([at('notes.txt'), at('a')])).resolves.toHaveLength(2)
})

test('a result never replaces its own input, and one file is no place for two', async () => {
  await using folder = await tree({ 'x.nii.gz': '', 'y.nii.gz': '' })
  const inputs = await findInputs([folder.path])
  await expect(planOutput(folder.path, inputs, undefined)).rejects.toThrow('would replace it')
  await expect(planOutput(join(folder.path, 'z.nii.gz'), inputs, undefined)).rejects.toThrow('2 scans')
  await expect(planOutput(join(folder.path, 'x.nii.gz'), inputs.slice(0, 1), undefined)).rejects.toThrow('replace')
  const plan = await planOutput(join(folder.path, 'out'), inputs, 'dicom_seg')
  expect([plan.extension, plan.pathOf(inputs[0]!)]).toEqual(['.dcm', join(folder.path, 'out', 'x')])
})
