import { join, relative, resolve, sep } from 'node:path'
import { AppError } from '../errors.js'

/** Names a client may choose (models): one path segment, no leading dot, at most 64 characters. */
export const SAFE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

export function checkName(name: string, what: string): string {
  if (!SAFE_NAME.test(name))
    throw new AppError('BAD_NAME', `${what} '${name.slice(0, 80)}' is not a usable name`, {
      hint: 'use 1 to 64 letters, digits, dots, dashes or underscores, starting with a letter or digit',
    })
  return name
}

/** Joins a checked name under a folder we own. The pattern is the rule; the path check is the seat belt. */
export function childPath(root: string, name: string, what: string): string {
  const path = join(root, checkName(name, what))
  const inside = relative(resolve(root), resolve(path))
  if (inside === '' || inside === '..' || inside.startsWith(`..${sep}`))
    throw new AppError('BAD_NAME', `${what} '${name}' is not a usable name`)
  return path
}
