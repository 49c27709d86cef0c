/**
 * The mark that makes a folder a workspace: `aidant-workspace.json` with the version of its layout. A folder without it is
 * taken when it is empty, or when an Aidant from before the mark made it, which is known by that one's own names.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../util/atomic-write.js'
import { SAFE_NAME } from '../util/safe-name.js'
import { isOldRequests, isOwnModelFile, LOCKS_FOLDER, MODELS, OLD_REQUESTS, SESSION, SESSIONS, TMP } from './names.js'

const MARK_FILE = 'aidant-workspace.json'
const FORMAT = 1

const Mark = z.looseObject({ format: z.int().positive() })

/** What file managers and disks put into an empty folder. */
const CLUTTER =
  /^(lost\+found|\.DS_Store|\.snapshots?|\.Trash.*|\.nfs.*|@eaDir|desktop\.ini|Thumbs\.db|\.gitkeep|\.gitignore)$/

/** The folder cannot be the workspace; the message says why and what would do, for the operator. */
export class WorkspaceRefused extends Error {}

/** What a folder is: a workspace, empty, or made by an Aidant from before the mark. */
export type FolderState = 'ours' | 'new' | 'old'

/** Looks at an existing folder and changes nothing. Throws WorkspaceRefused when it cannot be the workspace. */
export async function examineFolder(path: string): Promise<FolderState> {
  try {
    const names = (await readdir(path)).filter((name) => !CLUTTER.test(name))
    if (names.includes(MARK_FILE)) {
      await checkMark(join(path, MARK_FILE), path)
      return 'ours'
    }
    // Another server may be writing the mark at this moment.
    const others = names.filter((name) => !name.startsWith(MARK_FILE))
    if (others.length === 0) return 'new'
    if (await isOldWorkspace(path, others)) return 'old'
    throw new WorkspaceRefused(
      `'${path}' is neither empty nor a workspace: it holds ${shown(others)}, which Aidant did not make; ` +
        `name an empty folder, or a new one such as '${join(path, 'workspace')}'`,
    )
  } catch (error) {
    throw refusalOf(error, path)
  }
}

/** Makes `path` a workspace with its mark, unless it is one; gives what it was. Throws WorkspaceRefused, having changed nothing. */
export async function markWorkspace(path: string): Promise<FolderState> {
  try {
    await mkdir(path, { recursive: true })
    const state = await examineFolder(path)
    if (state === 'ours') return state
    const mark = { format: FORMAT, id: randomUUID(), createdAt: new Date().toISOString() }
    await writeFileAtomic(join(path, MARK_FILE), `${JSON.stringify(mark, undefined, 2)}\n`)
    return state
  } catch (error) {
    throw refusalOf(error, path)
  }
}

async function checkMark(file: string, path: string): Promise<void> {
  const parsed = Mark.safeParse(parseJson(await readFile(file, 'utf8')))
  if (!parsed.success)
    throw new WorkspaceRefused(
      `'${path}' has a damaged ${MARK_FILE}; if the folder is a workspace, write {"format": ${FORMAT}} into that file`,
    )
  if (parsed.data.format > FORMAT)
    throw new WorkspaceRefused(
      `'${path}' is a workspace of format ${parsed.data.format}, made by a newer Aidant; this one knows format ${FORMAT}`,
    )
}

/** By a model or a session of ours in it; or, where there is neither, by there being nothing but what bears our names. */
async function isOldWorkspace(path: string, names: readonly string[]): Promise<boolean> {
  const [models, sessions, tmp] = await Promise.all([MODELS, SESSIONS, TMP].map((folder) => list(join(path, folder))))
  for (const name of models!) if (await hasManifest(join(path, MODELS, name))) return true
  for (const name of sessions!) if (SESSION.test(name) && (await hasMeta(join(path, SESSIONS, name), name))) return true
  if (names.some((name) => ![MODELS, SESSIONS, TMP].includes(name))) return false
  for (const name of names) if (!(await stat(join(path, name))).isDirectory()) return false
  for (const name of models!) {
    if (name === LOCKS_FOLDER) continue
    const folder = join(path, MODELS, name)
    if (!SAFE_NAME.test(name) || !(await stat(folder)).isDirectory()) return false
    if (!(await list(folder)).every(isOwnModelFile)) return false
  }
  if (!sessions!.every((name) => SESSION.test(name))) return false
  for (const name of tmp!) if (!OLD_REQUESTS.test(name) || !(await isOldRequests(join(path, TMP, name)))) return false
  return true
}

async function hasManifest(folder: string): Promise<boolean> {
  const manifest = parseJson(await readFile(join(folder, 'manifest.json'), 'utf8').catch(() => ''))
  return z.object({ format: z.literal(1), deleted: z.boolean(), generation: z.number() }).safeParse(manifest).success
}

async function hasMeta(folder: string, id: string): Promise<boolean> {
  const meta = parseJson(await readFile(join(folder, 'meta.json'), 'utf8').catch(() => ''))
  return z.object({ id: z.literal(id), expirySeconds: z.number() }).safeParse(meta).success
}

/** Entries but clutter; none where there is no such folder. */
async function list(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return []
    throw error
  })
  return names.filter((name) => !CLUTTER.test(name))
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function shown(names: readonly string[]): string {
  const some = names.slice(0, 3).map((name) => `'${name}'`)
  return names.length > some.length ? `${some.join(', ')} and ${names.length - some.length} more` : some.join(', ')
}

function refusalOf(error: unknown, path: string): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EEXIST':
    case 'ENOTDIR':
      return new WorkspaceRefused(`'${path}' is not a folder`)
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new WorkspaceRefused(`'${path}' cannot be written by this user`)
    default:
      return error
  }
}
