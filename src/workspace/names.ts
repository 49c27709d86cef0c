/** What Aidant calls its files and folders in a workspace. Whatever is called otherwise is not ours and never touched. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'

export const MODELS = 'models'
export const SESSIONS = 'sessions'
export const TMP = 'tmp'
/** Leases of the servers that share the workspace. */
export const SERVERS = 'servers'
/** Who changed which model. Never removed by the workspace. */
export const AUDIT = 'audit'
/** What trials of rewritten networks found, by model and machine. */
export const REWRITES = 'rewrites'
/** Under models/; no model can be called so. */
export const LOCKS_FOLDER = '.locks'

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}'

export const SESSION = new RegExp(`^${UUID}$`)
/** A server's folder under tmp/, and its name in what it holds. */
export const SERVER = new RegExp(`^server-${UUID}$`)
/** servers/<server>.lease */
export const SERVER_LEASE = new RegExp(`^(server-${UUID})\\.lease$`)
/** sessions/<id>/<server>.hold: that server uses the session. */
export const HOLD = new RegExp(`^(server-${UUID})\\.hold$`)
/** sessions/<server>.<id>.part: a session on its way from another file system. */
export const INCOMING_SESSION = new RegExp(`^(server-${UUID})\\.${UUID}\\.part$`)
/** What is being removed: everything gets such a name first, so that a removal cut short leaves no half of anything. */
export const DISCARDED = new RegExp(`^${UUID}\\.discarded$`)

/** rewrites/<hash>.json, and on its way there */
export const KEPT_CHOICE = new RegExp(`^[0-9a-f]{64}\\.json(\\.${UUID}\\.tmp)?$`)

const MODEL_FILE = new RegExp(`^([0-9a-f]{64}\\.(onnx|d)|${UUID}\\.part|manifest\\.json(\\.${UUID}\\.tmp)?)$`)

export function isOwnModelFile(name: string): boolean {
  return MODEL_FILE.test(name) || DISCARDED.test(name)
}

/** tmp/<host>-<pid>, as servers before the mark called their folders. */
export const OLD_REQUESTS = /^[A-Za-z0-9._]+-\d+$/
/** What a request's folder of such a server may hold. */
const OLD_REQUEST_FILE =
  /^(input-\d+|params\.json|result\.[a-z.]+|polygons\.json|session|zip-\w+|[a-z]+-\d{6}|fetched)$/

/** Whether a folder holds nothing but folders of requests. */
export async function isOldRequests(folder: string): Promise<boolean> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) return false
    if (!(await readdir(join(folder, entry.name))).every((name) => OLD_REQUEST_FILE.test(name))) return false
  }
  return true
}

/** What may be removed at all, by the steps of its path in the workspace. */
const REMOVABLE: readonly (readonly RegExp[])[] = [
  [/^models$/, /^[A-Za-z0-9]/, MODEL_FILE],
  [/^rewrites$/, KEPT_CHOICE],
  [/^sessions$/, SESSION],
  [/^sessions$/, INCOMING_SESSION],
  [/^tmp$/, SERVER],
  [/^tmp$/, OLD_REQUESTS],
]

export function isRemovable(steps: readonly string[]): boolean {
  return REMOVABLE.some(
    (pattern) =>
      pattern.length === steps.length &&
      pattern.every((step, i) => step.test(steps[i]!) || (i === steps.length - 1 && DISCARDED.test(steps[i]!))),
  )
}
