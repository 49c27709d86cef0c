/**
 * What the server shows of itself in TLS: a certificate and its key, from files that may be exchanged while it runs. Owned
 * here: that a pair is whole before anybody is shown it, and that a broken one changes nothing.
 */
import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { stampOf } from '../util/file-stamp.js'
import { type Log, silentLog } from '../util/log.js'

export interface TlsFiles {
  /** PEM: the server's own certificate first, then those between it and the root. */
  readonly cert: string
  /** PEM. */
  readonly key: string
  /** A file with the key's passphrase on its first line; '' for none. */
  readonly passphrase: string
}

/** Why a pair cannot be used, and the flag to look at. */
export class TlsRefused extends Error {
  constructor(
    readonly flag: string,
    message: string,
  ) {
    super(message)
  }
}

/** Older versions have known weaknesses, and every client since 2008 speaks this one. */
const OLDEST_VERSION = 'TLSv1.2'
/** A certificate that ends so soon is warned of. */
const SOON_MS = 30 * 86_400_000

export class TlsIdentity {
  readonly #files: TlsFiles
  readonly #log: Log
  #options: SecureContextOptions = {}
  #expiresAt = 0
  #stamp = ''
  /** Told the new pair; whoever listens sets it. */
  onChange: (options: SecureContextOptions) => void = () => undefined

  private constructor(files: TlsFiles, log: Log) {
    this.#files = files
    this.#log = log
  }

  /** Rejects TlsRefused. */
  static async open(files: TlsFiles, log: Log = silentLog): Promise<TlsIdentity> {
    const identity = new TlsIdentity(files, log)
    await identity.#read()
    return identity
  }

  /** For a server, and for its `setSecureContext`. */
  get options(): SecureContextOptions {
    return this.#options
  }

  /** When the certificate ends, ms since the epoch. */
  get expiresAt(): number {
    return this.#expiresAt
  }

  /**
   * Reads the files anew, where they have changed or `always`, for the connections that come; those that are open stay.
   * A pair that cannot be used changes nothing and is logged. Gives whether another pair holds now.
   */
  async reload(always: boolean): Promise<boolean> {
    if (!always && (await stampOf(this.#paths)) === this.#stamp) return false
    try {
      await this.#read()
    } catch (error) {
      if (!(error instanceof TlsRefused)) throw error
      this.#log.error({ flag: error.flag, reason: error.message }, 'certificate not read anew: the old one holds')
      return false
    }
    this.onChange(this.#options)
    this.#log.info({ until: new Date(this.#expiresAt).toISOString() }, 'certificate read anew')
    return true
  }

  get #paths(): string[] {
    return [this.#files.cert, this.#files.key, this.#files.passphrase].filter((path) => path !== '')
  }

  async #read(): Promise<void> {
    const { cert: certPath, key: keyPath, passphrase: passphrasePath } = this.#files
    // Before reading: a change in between is then seen as one the next time.
    this.#stamp = await stampOf(this.#paths)
    const cert = await readPem(certPath, '--ssl-cert')
    const key = await readPem(keyPath, '--ssl-key')
    const passphrase =
      passphrasePath === ''
        ? undefined
        : (await readPem(passphrasePath, '--ssl-key-passphrase-file')).toString('utf8').split(/\r?\n/, 1)[0]!
    const certificate = parseCertificate(cert)
    const options = {
      cert,
      key,
      minVersion: OLDEST_VERSION,
      ...(passphrase === undefined ? {} : { passphrase }),
    } as const
    try {
      createSecureContext(options)
    } catch (error) {
      throw explained(error as NodeJS.ErrnoException, passphrase !== undefined)
    }
    this.#options = options
    this.#expiresAt = Date.parse(certificate.validTo)
    const left = this.#expiresAt - Date.now()
    if (left < SOON_MS)
      this.#log.warn(
        { until: new Date(this.#expiresAt).toISOString() },
        left < 0 ? 'the certificate has ended' : 'the certificate ends soon',
      )
  }
}

async function readPem(path: string, flag: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw new TlsRefused(flag, `the file cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown reason'})`)
  }
}

function parseCertificate(pem: Buffer): X509Certificate {
  try {
    return new X509Certificate(pem)
  } catch {
    throw new TlsRefused('--ssl-cert', 'there is no certificate in this file; it must be PEM')
  }
}

/** OpenSSL's reasons in words for whoever wrote the files. */
function explained({ code = '', message }: NodeJS.ErrnoException, hasPassphrase: boolean): TlsRefused {
  if (/MISMATCH/.test(code)) return new TlsRefused('--ssl-key', 'this key is not the one of the certificate')
  if (/PASSPHRASE|BAD_DECRYPT|INTERRUPTED_OR_CANCELLED|BAD_PASSWORD/.test(code))
    return hasPassphrase
      ? new TlsRefused('--ssl-key-passphrase-file', 'the key does not open with this passphrase')
      : new TlsRefused('--ssl-key', 'the key has a passphrase: --ssl-key-passphrase-file names a file with it')
  if (/NO_START_LINE|UNSUPPORTED|BAD_END_LINE|ASN1|DECODER/.test(code))
    return new TlsRefused('--ssl-key', 'there is no private key in this file; it must be PEM')
  return new TlsRefused('--ssl-cert', message)
}
