/** The login for another server, from a file or an environment variable: never from the command line, which others can read. */
import { readFile } from 'node:fs/promises'

/** Longer than any token seen; a larger file is something else. */
const MOST_BYTES = 16 * 1024

/**
 * The value of an Authorization header. `where` is a file, or `env:NAME`; what is there is `basic USER:PASSWORD` or `bearer
 * TOKEN`. The variable is taken out of `env`, so that no child process gets it. Throws RangeError, which says what is wrong
 * and never what it read.
 */
export async function readAuthorization(where: string, env: NodeJS.ProcessEnv): Promise<string> {
  const text = where.startsWith('env:') ? fromEnvironment(where.slice(4), env) : await fromFile(where)
  const [, scheme, rest] = /^\s*(basic|bearer)\s+(\S.*?)\s*$/is.exec(text) ?? []
  if (scheme === undefined || rest === undefined || /[\r\n]/.test(rest))
    throw new RangeError(`'${where}' holds something else than one line, basic USER:PASSWORD or bearer TOKEN`)
  if (scheme.toLowerCase() === 'bearer') {
    if (!/^[\x21-\x7e]+$/.test(rest)) throw new RangeError(`'${where}': the token has characters that no token has`)
    return `Bearer ${rest}`
  }
  if (!rest.includes(':')) throw new RangeError(`'${where}': basic is followed by USER:PASSWORD, and there is no colon`)
  return `Basic ${Buffer.from(rest, 'utf8').toString('base64')}`
}

function fromEnvironment(name: string, env: NodeJS.ProcessEnv): string {
  const value = env[name]
  if (value === undefined) throw new RangeError(`there is no environment variable '${name}'`)
  delete env[name]
  return value
}

async function fromFile(path: string): Promise<string> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException
    throw new RangeError(`the file '${path}' cannot be read (${code ?? 'unknown'})`, { cause })
  }
  if (text.length > MOST_BYTES) throw new RangeError(`the file '${path}' is too long for a login`)
  return text
}
