/**
 * Who may call: the tokens of `--api-token-file` and `--admin-token-file`. Owned here: which token belongs to whom, found
 * in a time that says nothing of how much of it was right, and that a change of the files takes effect whole or not at all.
 */
import { timingSafeEqual } from 'node:crypto'
import { stampOf } from '../util/file-stamp.js'
import { type Log, silentLog } from '../util/log.js'
import { BadTokenFile, hashToken, type NamedToken, readTokenFile } from './token-file.js'

/** What a token opens: `admin` everything, `api` everything but the operator's routes. */
export type Right = 'api' | 'admin'

export interface Caller {
  /** As the file names the token. */
  readonly name: string
  readonly right: Right
}

/** Paths by right; '' where there is no file. */
export type TokenFiles = Readonly<Record<Right, string>>

/** A file of tokens that the server cannot start with. */
export class TokensRefused extends Error {
  constructor(
    readonly right: Right,
    message: string,
  ) {
    super(message)
  }
}

interface Entry extends NamedToken {
  readonly right: Right
}

export class Tokens {
  readonly #files: TokenFiles
  readonly #log: Log
  #entries: readonly Entry[] = []
  #stamp = ''

  private constructor(files: TokenFiles, log: Log) {
    this.#files = files
    this.#log = log
  }

  /** Rejects TokensRefused. */
  static async open(files: TokenFiles, log: Log = silentLog): Promise<Tokens> {
    const tokens = new Tokens(files, log)
    await tokens.#read()
    return tokens
  }

  /** Whether routes of that right want a token. Where the API wants one, the operator's routes are not open either. */
  guards(right: Right): boolean {
    return this.#files.api !== '' || (right === 'admin' && this.#files.admin !== '')
  }

  /** Whether there are tokens for the operator's routes at all. */
  get hasAdmin(): boolean {
    return this.#files.admin !== ''
  }

  /** Whose token it is. Every token is compared to its end, so that time tells nothing. */
  find(token: string): Caller | undefined {
    const given = hashToken(token)
    let found: Entry | undefined
    for (const entry of this.#entries) if (timingSafeEqual(entry.hash, given)) found = entry
    return found && { name: found.name, right: found.right }
  }

  /**
   * Reads the files anew, where they have changed or `always`; a file that cannot be used changes nothing and is logged.
   * Gives whether other tokens hold now.
   */
  async reload(always: boolean): Promise<boolean> {
    if (this.#paths.length === 0) return false
    if (!always && (await stampOf(this.#paths)) === this.#stamp) return false
    try {
      await this.#read()
      this.#log.info({ tokens: this.#entries.length }, 'tokens read anew')
      return true
    } catch (error) {
      if (!(error instanceof TokensRefused)) throw error
      this.#log.error({ flag: flagOf(error.right), reason: error.message }, 'tokens not read anew: the old ones hold')
      return false
    }
  }

  get #paths(): string[] {
    return [this.#files.api, this.#files.admin].filter((path) => path !== '')
  }

  async #read(): Promise<void> {
    // Before reading: a change in between is then seen as one the next time.
    this.#stamp = await stampOf(this.#paths)
    const entries: Entry[] = []
    for (const right of ['api', 'admin'] as const) {
      if (this.#files[right] === '') continue
      const { tokens, open } = await readTokenFile(this.#files[right]).catch((error) => {
        throw error instanceof BadTokenFile ? new TokensRefused(right, error.message) : error
      })
      if (open) this.#log.warn({ flag: flagOf(right) }, 'others than its owner may read this file: chmod 600 it')
      for (const token of tokens) {
        if (entries.some((known) => known.hash.equals(token.hash)))
          throw new TokensRefused(right, `the token '${token.name}' is also one for the API; each opens one thing`)
        entries.push({ ...token, right })
      }
    }
    this.#entries = entries
  }
}

function flagOf(right: Right): string {
  return `--${right}-token-file`
}
