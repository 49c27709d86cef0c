/**
 * A file of tokens, as an operator writes it: one `name:token` a line; empty lines and lines that begin with # say nothing.
 * A name is for logs; a token has 16 characters or more, of those that a header and a URL carry unchanged.
 */
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'

export interface NamedToken {
  readonly name: string
  /** SHA-256 of the token; the token itself is not kept. */
  readonly hash: Buffer
}

/** What a token file must be and is not. Its message names the line and never what stands there. */
export class BadTokenFile extends Error {}

/** Any 16 of 64 characters cannot be guessed over a network, at whatever rate. */
const LEAST_LENGTH = 16
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}$/
/** What RFC 6750 lets a bearer token be. */
const TOKEN = /^[A-Za-z0-9._~+/-]+=*$/

export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest()
}

/** Throws BadTokenFile. */
export function parseTokens(text: string): NamedToken[] {
  const tokens: NamedToken[] = []
  for (const [i, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const where = `line ${i + 1}`
    const colon = line.indexOf(':')
    if (colon < 0) throw new BadTokenFile(`${where} must be name:token`)
    const [name, token] = [line.slice(0, colon).trim(), line.slice(colon + 1).trim()]
    if (!NAME.test(name))
      throw new BadTokenFile(`${where}: a name has 1 to 64 letters, digits, dots, dashes, underscores and @`)
    if (token.length < LEAST_LENGTH || !TOKEN.test(token))
      throw new BadTokenFile(
        `${where}: a token has ${LEAST_LENGTH} or more of the characters A-Z a-z 0-9 . _ ~ + / -, such as ` +
          'openssl rand -hex 32 gives',
      )
    const hash = hashToken(token)
    if (tokens.some((known) => known.name === name)) throw new BadTokenFile(`${where}: this name is given twice`)
    if (tokens.some((known) => known.hash.equals(hash))) throw new BadTokenFile(`${where}: this token is given twice`)
    tokens.push({ name, hash })
  }
  if (tokens.length === 0) throw new BadTokenFile('there is no token in it; each is a line name:token')
  return tokens
}

/** `open`: whether others than its owner may read the file, where the system knows such a thing. Throws BadTokenFile. */
export async function readTokenFile(path: string): Promise<{ tokens: NamedToken[]; open: boolean }> {
  try {
    const [text, { mode }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    return { tokens: parseTokens(text), open: process.platform !== 'win32' && (mode & 0o077) !== 0 }
  } catch (error) {
    if (error instanceof BadTokenFile) throw error
    throw new BadTokenFile(`it cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'})`)
  }
}
