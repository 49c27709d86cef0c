/** A datastore as files that training programs read: MONAI Label's own layout, or BIDS derivatives. */
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { createGzip } from 'node:zlib'
import { z } from 'zod'
import { readVersion } from '../util/version.js'
import { UsageError } from './exit-codes.js'
import type { ServerClient } from './server-client.js'

const Stored = z.object({ ext: z.string().regex(/^(\.[A-Za-z0-9]+)+$/), info: z.record(z.string(), z.unknown()) })
const Item = z.object({ image: Stored, labels: z.record(z.string().regex(/^[A-Za-z0-9][\w.-]*$/), Stored) })
type Item = z.infer<typeof Item>

/** By id. A map, since ids are words of clients. */
export type Listing = ReadonlyMap<string, Item>

export interface Exported {
  readonly images: number
  readonly labels: number
}

export async function readListing(client: ServerClient): Promise<Listing> {
  const { objects } = await client.ask<{ objects: Record<string, unknown> }>('GET', '/datastore/?output=all')
  return new Map(Object.entries(objects).map(([id, item]) => [id, Item.parse(item)]))
}

/** Without the series of a DICOMweb service that nobody has labelled: they are its to keep, and nothing to train on. */
async function readOwn(client: ServerClient): Promise<Listing> {
  const listing = await readListing(client)
  return new Map([...listing].filter(([, { image, labels }]) => 'ts' in image.info || Object.keys(labels).length > 0))
}

/**
 * Images in the folder, labels under `labels/<tag>/`, and `datastore_v2.json` that lists them; files as they came, but of
 * DICOM series the volume, and their labels on the same voxels: neither those nor DICOM SEG are what training programs read.
 */
export async function exportMonai(client: ServerClient, folder: string): Promise<Exported> {
  const listing = await readOwn(client)
  await makeEmpty(folder)
  const name = fileNames(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, /[^A-Za-z0-9._-]+/g, '_')
  const objects: Record<string, unknown> = {}
  let labels = 0
  for (const [id, item] of listing) {
    const { ext: own, info } = item.image
    const isSeries = info.format === 'dicom' || 'RetrieveURL' in info
    const ext = isSeries ? '.nii.gz' : own
    const stem = name(id.toLowerCase().endsWith(ext) ? id.slice(0, -ext.length) : id, id)
    const fetched = (url: string, path: string, decoded: boolean) =>
      decoded ? save(client, `${url}&volume=true`, path, 'gzip') : save(client, url, path)
    await fetched(imageUrl(id), join(folder, `${stem}${ext}`), isSeries)
    const kept: Record<string, unknown> = {}
    for (const [tag, label] of Object.entries(item.labels)) {
      const isDecoded = isSeries && label.ext !== '.json'
      const labelExt = isDecoded ? '.nii.gz' : label.ext
      await fetched(labelUrl(id, tag), join(folder, 'labels', tag, `${stem}${labelExt}`), isDecoded)
      kept[tag] = { ...label, ext: labelExt }
      labels++
    }
    objects[stem] = { image: { ext, info: { ...info, name: id } }, labels: kept }
  }
  const about = { name: 'aidant', description: 'exported from a datastore of Aidant', objects }
  await writeJson(join(folder, 'datastore_v2.json'), about)
  return { images: listing.size, labels }
}

/**
 * A derivative data set: `sub-X/anat/sub-X_image.nii.gz`, for each tag `sub-X_desc-TAG_dseg.nii.gz` and, where label names
 * are known, the `.tsv` of them beside it; participants.tsv says which image X is. Labels that are no label maps are left out.
 */
export async function exportBids(client: ServerClient, folder: string): Promise<Exported> {
  const listing = await readOwn(client)
  await makeEmpty(folder)
  const name = fileNames(/^[A-Za-z0-9]{1,60}$/, /[^A-Za-z0-9]+/g, '')
  const participants = ['participant_id\timage']
  let labels = 0
  for (const [id, item] of listing) {
    const subject = `sub-${name(id, id)}`
    const at = (rest: string) => join(folder, subject, 'anat', `${subject}_${rest}`)
    await save(client, `${imageUrl(id)}&volume=true`, at('image.nii.gz'), 'gzip')
    for (const [tag, label] of Object.entries(item.labels)) {
      if (label.ext === '.json') continue
      const described = `desc-${tag.replace(/[^A-Za-z0-9]/g, '')}_dseg`
      await save(client, `${labelUrl(id, tag)}&volume=true`, at(`${described}.nii.gz`), 'gzip')
      const rows = labelRows(label)
      if (rows.length > 0) await writeFile(at(`${described}.tsv`), `${['index\tname', ...rows].join('\n')}\n`)
      labels++
    }
    participants.push(`${subject}\t${id.replace(/\s+/g, ' ')}`)
  }
  await writeJson(join(folder, 'dataset_description.json'), {
    Name: 'Images and labels of an Aidant datastore',
    BIDSVersion: '1.9.0',
    DatasetType: 'derivative',
    GeneratedBy: [{ Name: 'aidant', Version: readVersion() }],
  })
  // The standard has no suffix for an image of unknown modality.
  await writeFile(join(folder, '.bidsignore'), '*_image.nii.gz\n')
  await writeFile(join(folder, 'participants.tsv'), `${participants.join('\n')}\n`)
  return { images: listing.size, labels }
}

const LabelNames = z.object({ params: z.object({ label_names: z.record(z.string(), z.int()) }) })

function labelRows({ info }: z.infer<typeof Stored>): string[] {
  const said = LabelNames.safeParse(info)
  if (!said.success) return []
  return Object.entries(said.data.params.label_names)
    .sort(([, a], [, b]) => a - b)
    .map(([label, value]) => `${value}\t${label.replace(/\s+/g, ' ')}`)
}

const imageUrl = (id: string) => `/datastore/image?image=${encodeURIComponent(id)}`
const labelUrl = (id: string, tag: string) =>
  `/datastore/label?label=${encodeURIComponent(id)}&tag=${encodeURIComponent(tag)}`

async function save(client: ServerClient, url: string, path: string, coding?: 'gzip'): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const [reply, file] = [await client.get(url), createWriteStream(path, { flags: 'wx' })]
  if (coding === 'gzip') await pipeline(reply, createGzip(), file)
  else await pipeline(reply, file)
}

async function makeEmpty(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  if ((await readdir(folder)).length > 0)
    throw new UsageError(`'${folder}' holds files already`, 'name a new or an empty folder')
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, undefined, 2)}\n`)
}

/**
 * Makes file names of what clients call images: the word itself where it `fits`, else what is left of it without `unfit`
 * characters and a piece of the id's hash. No two are the same, on file systems that know no case either.
 */
function fileNames(fits: RegExp, unfit: RegExp, filler: string): (word: string, id: string) => string {
  const taken = new Set<string>()
  return (word, id) => {
    const plain = fits.test(word) && !taken.has(word.toLowerCase())
    const hash = createHash('sha256').update(id).digest('hex')
    const left = word.replace(unfit, filler).replace(/^[^A-Za-z0-9]+/, '')
    const name = plain ? word : `${left.slice(0, 40)}${filler}${hash.slice(0, 12)}`
    taken.add(name.toLowerCase())
    return name
  }
}
