/** Certificates for tests, signed by themselves, as an operator makes them: by `openssl`. */
import { execFileSync, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** False where there is no openssl: tests that need certificates skip then. */
export const canMakeCertificates = spawnSync('openssl', ['version']).status === 0

export interface Pair {
  readonly cert: string
  readonly key: string
  /** A file with the passphrase of the key; '' where it has none. */
  readonly passphrase: string
}

/** Files `<name>.crt` and `<name>.key` in the folder, for 127.0.0.1 and localhost. */
export function makeCertificate(folder: string, name: string, passphrase = ''): Pair {
  const pair = {
    cert: join(folder, `${name}.crt`),
    key: join(folder, `${name}.key`),
    passphrase: passphrase === '' ? '' : join(folder, `${name}.pass`),
  }
  if (passphrase !== '') writeFileSync(pair.passphrase, `${passphrase}\n`)
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-days', '90'],
      ...['-subj', `/CN=${name}`, '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'],
      ...['-keyout', pair.key, '-out', pair.cert],
      ...(passphrase === '' ? ['-nodes'] : ['-passout', `file:${pair.passphrase}`]),
    ],
    { stdio: 'ignore' },
  )
  return pair
}
