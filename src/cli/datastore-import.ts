/** A folder in MONAI Label's layout, as the images and labels that a datastore takes. */
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { UsageError } from './exit-codes.js'
import { type ServerClient, ServerError } from './server-client.js'

export interface Study {
  readonly id: string
  readonly image: string
  /** Paths by tag. */
  readonly labels: readonly { readonly tag: string; readonly path: string; readonly params: unknown }[]
}

const LIST = 'datastore_v2.json'
const Stored = z.looseObject({ ext: z.string(), info: z.record(z.string(), z.unknown()).default({}) })
const List = z.looseObject({
  objects: z.record(z.string(), z.looseObject({ image: Stored, labels: z.record(z.string(), Stored).default({}) })),
})

/** By its list where the folder has one, else every file is an image, with the files of the same name under `labels/TAG`. */
export async function findStudies(folder: string): Promise<Study[]> {
  const names = await readdir(folder)
  const studies = names.includes(LIST) ? await listed(folder) : await found(folder)
  if (studies.length === 0) throw new UsageError(`there are no images in '${folder}'`)
  return studies
}

async function listed(folder: string): Promise<Study[]> {
  let list: z.infer<typeof List>
  try {
    list = List.parse(JSON.parse(await readFile(join(folder, LIST), 'utf8')))
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof z.ZodError)
      throw new UsageError(`'${LIST}' in the folder cannot be read as a list of MONAI Label's`)
    throw error
  }
  return Object.entries(list.objects).map(([stem, { image, labels }]) => {
    const file = (ext: string, ...steps: string[]) => {
      const name = `${stem}${ext}`
      // A list of somebody else's may name files of ours.
      if ([name, ...steps].some((step) => step !== basename(step) || step === '..'))
        throw new UsageError(`'${LIST}' names a file outside the folder: '${[...steps, name].join('/')}'`)
      return join(folder, ...steps, name)
    }
    return {
      id: typeof image.info.name === 'string' ? image.info.name : stem,
      image: file(image.ext),
      labels: Object.entries(labels).map(([tag, { ext, info }]) => ({
        tag,
        path: file(ext, 'labels', tag),
        params: info.params ?? {},
      })),
    }
  })
}

async function found(folder: string): Promise<Study[]> {
  const labels = new Map<string, { tag: string; path: string; params: unknown }[]>()
  for (const tag of await foldersIn(join(folder, 'labels')))
    for (const name of await filesIn(join(folder, 'labels', tag))) {
      const path = join(folder, 'labels', tag, name)
      labels.set(stemOf(name), [...(labels.get(stemOf(name)) ?? []), { tag, path, params: {} }])
    }
  return (await filesIn(folder)).map((name) => {
    const id = stemOf(name)
    return { id, image: join(folder, name), labels: labels.get(id) ?? [] }
  })
}

/** Two suffixes are one where the second only says how the first is packed, or what it holds. */
function stemOf(name: string): string {
  return name.replace(/(\.nii|\.seg)?\.[A-Za-z0-9]+$/, '')
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true })
  return entries.filter((entry) => entry.isFile() && !entry.name.startsWith('.')).map(({ name }) => name)
}

async function foldersIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch(() => [])
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name)
}

/** Sends them one after the other; what the server refuses is told in its words, and the rest goes on. */
export async function sendStudies(client: ServerClient, studies: readonly Study[]) {
  let [images, labels] = [0, 0]
  const failures: string[] = []
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<boolean> => {
    try {
      await work()
      return true
    } catch (error) {
      const isRefusal = error instanceof ServerError && error.status !== undefined
      if (!isRefusal && (error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      failures.push(`${what}: ${isRefusal ? error.message : 'there is no such file'}`)
      return false
    }
  }
  for (const { id, image, labels: own } of studies) {
    const url = encodeURIComponent(id)
    if (!(await attempt(image, () => client.upload(`/datastore/?image=${url}`, [{ name: 'file', path: image }]))))
      continue
    images++
    for (const { tag, path, params } of own) {
      const to = `/datastore/label?image=${url}&tag=${encodeURIComponent(tag)}`
      const fields = { params: JSON.stringify(params) }
      if (await attempt(path, () => client.upload(to, [{ name: 'label', path }], fields))) labels++
    }
  }
  return { images, labels, failures }
}
