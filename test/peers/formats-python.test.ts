/** nibabel and SimpleITK read what writeVolume wrote: same voxels, same place in the world. */

import { existsSync, readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { DtypeName, ResultExtension } from '../../src/formats/format.js'
import { readVolume } from '../../src/formats/read-volume.js'
import { writeVolume } from '../../src/formats/write-volume.js'
import { makeVolume, spacingOf, type Volume, voxelCount } from '../../src/volume/volume.js'
import { type NiftiSpec, niftiBytes } from '../helpers/nifti-bytes.js'
import { pythonJson, pythonWith } from '../helpers/python.js'
import { sharedData } from '../helpers/shared-data.js'
import { axisOrders, inAxisOrder, roomyLimits, scaleAffine, tempFolder, volumeOf } from '../helpers/volumes.js'

interface Read {
  readonly shape: readonly number[]
  readonly affine: readonly number[]
  readonly dtype: string
  readonly voxels: readonly number[]
}

/** Shapes as [x, y, z(, c)], voxels x fastest, affines RAS+, whichever library read the file. */
const NIBABEL = `
import json, sys, nibabel, numpy as np
out = []
for path in sys.argv[1:]:
    image = nibabel.load(path)
    data = np.asanyarray(image.dataobj)
    out.append(dict(shape=data.shape, affine=image.affine.ravel().tolist(), dtype=str(data.dtype),
                    voxels=data.ravel(order='F').tolist()))
print(json.dumps(out))
`
const SIMPLEITK = `
import json, sys, SimpleITK as sitk, numpy as np
out = []
for path in sys.argv[1:]:
    image = sitk.ReadImage(path)
    data = sitk.GetArrayFromImage(image)
    n = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:n, :n] = direction
    affine[:n, 3] = image.GetOrigin()
    affine[:2] *= -1
    channels = image.GetNumberOfComponentsPerPixel()
    if channels > 1:
        data = np.moveaxis(data, -1, 0)
    out.append(dict(shape=list(image.GetSize()) + ([channels] if channels > 1 else []),
                    affine=affine.ravel().tolist(), dtype=str(data.dtype), voxels=data.ravel().tolist()))
print(json.dumps(out))
`

const METADATA = `
import json, sys, SimpleITK as sitk
image = sitk.ReadImage(sys.argv[1])
print(json.dumps({key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}))
`

const nibabel = pythonWith(['nibabel', 'numpy'])
const simpleItk = pythonWith(['SimpleITK', 'numpy'])
const both = pythonWith(['nibabel', 'SimpleITK'])

interface Case {
  readonly name: string
  readonly volume: Volume
  readonly extension: ResultExtension
  readonly dtype?: DtypeName
  readonly compress?: boolean
}

const turned = Float64Array.of(
  ...[0.6 * 2, -0.8 * 3, 0, -31.5],
  ...[0.8 * 2, 0.6 * 3, 0, 12.25],
  ...[0, 0, 4, 5],
  ...[0, 0, 0, 1],
)
const labels = (affine: Float64Array) => volumeOf([3, 4, 5], { affine, value: (i) => i % 7 })

function cases(extensions: readonly ResultExtension[], dtypes: readonly DtypeName[]): Case[] {
  return extensions.flatMap((extension) => [
    ...axisOrders.map((order) => ({
      name: `${order.codes}${extension}`,
      volume: inAxisOrder(labels(scaleAffine([0.75, 1.5, 2.5], [-31, 12, 5])), order),
      extension,
    })),
    { name: `oblique${extension}`, volume: labels(turned), extension },
    ...dtypes.map((dtype) => ({ name: `${dtype}${extension}`, volume: labels(turned), extension, dtype })),
    ...dtypes.map((dtype) => ({
      name: `${dtype}, packed${extension}`,
      volume: labels(turned),
      extension,
      dtype,
      compress: true,
    })),
  ])
}

async function compare(list: readonly Case[], python: string, script: string): Promise<void> {
  await using folder = await tempFolder()
  const paths: string[] = []
  for (const { volume, extension, dtype, compress } of list) {
    const path = join(folder.path, `${paths.length}${extension}`)
    await writeVolume(volume, path, { extension, dtype, compress, kind: 'labels' })
    paths.push(path)
  }
  const found = (await pythonJson(python, script, paths)) as Read[]
  for (const [i, { name, volume, dtype }] of list.entries()) {
    const { shape, affine, voxels, dtype: type } = found[i]!
    expect({ name, shape }).toEqual({ name, shape: [...volume.size] })
    expect({ name, type }).toEqual({ name, type: dtype ?? 'uint8' })
    expect(voxels).toEqual(Array.from(volume.data))
    for (let k = 0; k < 16; k++) expect(affine[k], name).toBeCloseTo(volume.affine[k]!, 4)
  }
}

const NIFTI_TYPES = ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'float32', 'float64'] as const

describe.skipIf(!nibabel)('nibabel (needs a Python that has it)', () => {
  it('reads our NIfTI in every axis order and type', async () => {
    await compare(cases(['.nii', '.nii.gz'], NIFTI_TYPES), nibabel!, NIBABEL)
  })

  it('finds the affine of the input in the result, bit for bit', async () => {
    await using folder = await tempFolder()
    const specs = [
      { srow: [0.1, -0.2, 3.3, 4.4, 1.7, 0.3, 0.1, -5.5, 0.2, 2.1, 0.1, 6.6] },
      { sformCode: 0, qformCode: 1, pixdim: [-1, 0.7, 0.9, 3.3, 1, 1, 1, 1], quatern: [0.1, 0.2, 0.3, 7.7, 8.8, 9.9] },
      { sformCode: 0, qformCode: 0, pixdim: [0, 0.7, 0.9, 3.3, 1, 1, 1, 1] },
      { sformCode: 4, qformCode: 2, quatern: [0, 0, 1, 1, 2, 3] },
      { version: 2 as const, srow: [0.1, 0, 0, Math.PI, 0, 0.2, 0, Math.E, 0, 0, 0.3, Math.SQRT2] },
      { littleEndian: false, dim: [2, 2, 2], srow: [0.1, 0, 0, 1, 0, 0.2, 0, 2, 0, 0, 0.3, 3] },
    ]
    const paths: string[] = []
    for (const [i, spec] of specs.entries()) {
      const source = join(folder.path, `source${i}.nii`)
      await writeFile(source, niftiBytes(spec))
      const result = join(folder.path, `result${i}.nii.gz`)
      const { volume } = await readVolume([source], roomyLimits)
      await writeVolume(volume, result, { extension: '.nii.gz', kind: 'labels' })
      paths.push(source, result)
    }
    const found = (await pythonJson(nibabel!, NIBABEL, paths)) as Read[]
    for (let i = 0; i < found.length; i += 2) {
      expect(found[i + 1]!.affine).toEqual(found[i]!.affine)
      expect(found[i + 1]!.shape).toEqual(found[i]!.shape)
      expect(found[i + 1]!.voxels).toEqual(found[i]!.voxels)
    }
  })
})

describe.skipIf(!simpleItk)('SimpleITK (needs a Python that has it)', () => {
  it('reads our NIfTI, NRRD and MetaImage in every axis order and type', async () => {
    await compare(cases(['.nii.gz', '.nrrd', '.mha'], NIFTI_TYPES), simpleItk!, SIMPLEITK)
  })

  it.each(['.nrrd', '.mha'] as const)('reads a %s of several channels', async (extension) => {
    await using folder = await tempFolder()
    const volume = volumeOf([3, 2, 2], { affine: turned, channels: 3 })
    const path = join(folder.path, `vector${extension}`)
    await writeVolume(volume, path, { extension, kind: 'intensity', compress: true })
    const [found] = (await pythonJson(simpleItk!, SIMPLEITK, [path])) as [Read]
    expect(found.shape).toEqual([3, 2, 2, 3])
    expect(found.voxels).toEqual(Array.from(volume.data))
  })

  it('reads the names, values, colours and extents of a .seg.nrrd, as 3D Slicer does', async () => {
    await using folder = await tempFolder()
    const labels = volumeOf([4, 3, 2], { affine: turned, value: (i) => (i === 5 ? 2 : i >= 21 ? 7 : 0) })
    const path = join(folder.path, 'labels.seg.nrrd')
    const segments = [
      { value: 1, name: 'absent' },
      { value: 2, name: 'Rückenmark\nund\\mehr' },
    ]
    await writeVolume(labels, path, { extension: '.seg.nrrd', kind: 'labels', segments })
    const found = (await pythonJson(simpleItk!, METADATA, [path])) as Record<string, string>
    expect(found).toMatchObject({
      Segment0_ID: 'Segment_2',
      Segment0_LabelValue: '2',
      Segment0_Layer: '0',
      Segment0_Extent: '1 1 1 1 0 0',
      Segment1_Name: 'label 7',
      Segment1_Extent: '1 3 2 2 1 1',
      Segmentation_MasterRepresentation: 'Binary labelmap',
    })
    expect(found.Segment0_Name).toMatch(/^Rückenmark/)
    for (const key of ['Segment0_Color', 'Segment1_Color'])
      expect(found[key]).toMatch(/^[01](\.\d+)? [01](\.\d+)? [01](\.\d+)?$/)
    expect(found.Segment2_ID).toBeUndefined()
  })
})

/** What nibabel says of a file, and whether ITK opens it: its size, the place of its first voxel in RAS+, its voxels. */
const OPENED = `
import json, sys, nibabel, numpy as np, SimpleITK as sitk
out = []
for path in sys.argv[1:]:
    header = nibabel.load(path).header
    image = sitk.ReadImage(path)
    origin = (np.array(image.GetOrigin()[:3]) * [-1, -1, 1]).tolist()
    out.append(dict(codes=[int(header['qform_code']), int(header['sform_code'])], srow=header.get_sform()[:3].ravel().tolist(),
                    size=list(image.GetSize())[:3], origin=origin, spacing=list(image.GetSpacing())[:3],
                    voxels=sitk.GetArrayFromImage(image).ravel().tolist()))
print(json.dumps(out))
`

interface Opened {
  readonly codes: readonly [number, number]
  readonly srow: readonly number[]
  readonly size: readonly number[]
  readonly origin: readonly number[]
  readonly spacing: readonly number[]
  readonly voxels: readonly number[]
}

/** Axes of 0.8 x 0.9 x 3 mm, leaning by `tilt` mm a slice, as a tilted gantry gives. */
const leaning = (tilt: number) => Float64Array.of(0.8, 0, 0, -3, 0, 0.9, tilt, 5, 0, 0, 3, 7, 0, 0, 0, 1)

describe.skipIf(!both)('ITK opens every NIfTI that we write (needs a Python with nibabel and SimpleITK)', () => {
  const tilted = (tilt: number) => volumeOf([4, 3, 2], { affine: leaning(tilt), value: (i) => i % 5 })
  const sheared: NiftiSpec = {
    srow: [0.8, 0, 0, -3, 0, 0.9, 0.7, 5, 0, 0, 3, 7],
    pixdim: [1, 0.8, 0.9, 3.08, 1, 1, 1, 1],
  }
  const files: readonly { name: string; volume?: Volume; spec?: NiftiSpec; qform: number }[] = [
    ...axisOrders.map((order) => ({
      name: `tilted ${order.codes}`,
      volume: inAxisOrder(tilted(0.9), order),
      qform: 1,
    })),
    ...[1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 3, 9].map((tilt) => ({
      name: `${tilt} mm`,
      volume: tilted(tilt),
      qform: 1,
    })),
    { name: 'oblique', volume: volumeOf([4, 3, 2], { affine: turned }), qform: 1 },
    { name: 'a NIfTI whose one form is a sheared sform', spec: sheared, qform: 1 },
    {
      name: 'the same, left-handed',
      spec: { ...sheared, srow: [-0.8, ...sheared.srow!.slice(1)] },
      qform: 1,
    },
    {
      name: 'a sheared sform whose qform is another',
      spec: { ...sheared, qformCode: 2, quatern: [0, 0, 1, -3, 5, 7] },
      qform: 2,
    },
    { name: 'an sform that is rigid stays alone', spec: { srow: [2, 0, 0, 7, 0, 3, 0, 8, 0, 0, 4, 9] }, qform: 0 },
    { name: 'an sform of zeros', spec: { srow: Array(12).fill(0) }, qform: 1 },
  ]
  it.each(['labels', 'intensity'] as const)('%s', async (kind) => {
    await using folder = await tempFolder()
    const volumes: Volume[] = []
    const paths: string[] = []
    for (const [i, { volume, spec }] of files.entries()) {
      const source = join(folder.path, `source${i}.nii`)
      if (spec) await writeFile(source, niftiBytes(spec))
      volumes.push(volume ?? (await readVolume([source], roomyLimits)).volume)
      paths.push(join(folder.path, `${i}.nii.gz`))
      await writeVolume(volumes[i]!, paths[i]!, { extension: '.nii.gz', kind })
    }
    const found = (await pythonJson(both!, OPENED, paths)) as Opened[]
    for (const [i, { name, spec, qform }] of files.entries()) {
      const { affine, size, data } = volumes[i]!
      const { codes, srow, voxels, origin, spacing, size: seen } = found[i]!
      expect({ name, codes, seen: seen.slice(0, size.length) }).toEqual({
        name,
        codes: [qform, 1],
        seen: seen.map((_, a) => size[a]),
      })
      expect(srow, name).toEqual((spec?.srow ?? Array.from(affine.subarray(0, 12))).map(Math.fround))
      expect(voxels, name).toEqual(Array.from(data))
      for (const axis of [0, 1, 2]) {
        expect(origin[axis] ?? 0, name).toBeCloseTo(affine[axis * 4 + 3]!, 4)
        if (!spec) expect(spacing[axis], name).toBeCloseTo(spacingOf(volumes[i]!)[axis]!, 4)
      }
    }
  })
})

/** Real scans: axes to the left, oblique with thick slices, isotropic heads, NIfTI-2. */
const REAL = [
  'nifti/synthseg_labels/*',
  'nifti/qin_gbm/*',
  'nifti/brain/*',
  'nifti/stroke/*',
  'nifti/totalsegmentator/*',
  'robust/nifti_space/*',
]

/** Header fields that hold the geometry, as nibabel and ITK see them: exact, and of the file rather than of the voxels. */
const GEOMETRY = `
import json, sys, nibabel, SimpleITK as sitk
out = []
for path in sys.argv[1:]:
    header = nibabel.load(path).header
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    out.append(dict(
        affine=nibabel.load(path).affine.ravel().tolist(), shape=header.get_data_shape()[:3],
        pixdim=header['pixdim'][:4].tolist(), qform=header.get_qform().tolist(), sform=header.get_sform().tolist(),
        codes=[int(header['qform_code']), int(header['sform_code'])], units=int(header['xyzt_units']),
        itk=[reader.GetOrigin()[:3], reader.GetSpacing()[:3], reader.GetDirection() if reader.GetDimension() == 3 else 0]))
print(json.dumps(out))
`

const twoOfEach = REAL.flatMap((pattern) => {
  const folder = join(sharedData ?? '', pattern.slice(0, -2))
  if (!sharedData || !existsSync(folder)) return []
  const names = readdirSync(folder).filter((name) => /\.nii(\.gz)?$/.test(name))
  return [names[0]!, names.at(-1)!].map((name) => join(folder, name))
})

describe.skipIf(!both || !sharedData)(
  'real scans (needs ../shared/data and a Python with nibabel and SimpleITK)',
  () => {
    it('and label maps of them lie in the same place, bit for bit', async () => {
      await using folder = await tempFolder()
      const results: string[] = []
      for (const path of twoOfEach) {
        const { volume } = await readVolume([path], roomyLimits)
        const data = new Uint8Array(voxelCount(volume))
        const result = join(folder.path, `${results.length}.nii.gz`)
        const labels = makeVolume(volume.size, volume.affine, data, { nifti: volume.nifti })
        await writeVolume(labels, result, { extension: '.nii.gz', kind: 'labels' })
        results.push(result)
      }
      const found = (await pythonJson(both!, GEOMETRY, [...twoOfEach, ...results])) as unknown[]
      expect(found.slice(results.length)).toEqual(found.slice(0, results.length))
    })
  },
)
