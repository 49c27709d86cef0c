import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import { type TlsFiles, TlsIdentity } from '../../../src/access/tls-identity.js'
import { type Log, silentLog } from '../../../src/util/log.js'
import { canMakeCertificates, makeCertificate } from '../../helpers/certificates.js'
import { tempFolder } from '../../helpers/volumes.js'

describe.skipIf(!canMakeCertificates)('a certificate and its key (skipped without openssl)', () => {
  test('are shown, a key with a passphrase too', async () => {
    await using folder = await tempFolder()
    for (const phrase of ['', 'open sesame']) {
      const pair = makeCertificate(folder.path, `plain${phrase.length}`, phrase)
      const { options, expiresAt } = await TlsIdentity.open(pair)
      expect(options).toMatchObject({ cert: readFileSync(pair.cert), minVersion: 'TLSv1.2' })
      expect(Math.round((expiresAt - Date.now()) / 86_400_000)).toBe(90)
    }
  })

  it.each<{ what: string; of: (folder: string) => TlsFiles; flag: string; why: string }>([
    {
      what: 'no file',
      of: (folder) => ({ ...makeCertificate(folder, 'a'), cert: join(folder, 'none') }),
      flag: '--ssl-cert',
      why: 'the file cannot be read (ENOENT)',
    },
    {
      what: 'the key of another',
      of: (folder) => ({ ...makeCertificate(folder, 'a'), key: makeCertificate(folder, 'b').key }),
      flag: '--ssl-key',
      why: 'this key is not the one of the certificate',
    },
    {
      what: 'the two exchanged',
      of: (folder) => {
        const { cert, key } = makeCertificate(folder, 'a')
        return { cert: key, key: cert, passphrase: '' }
      },
      flag: '--ssl-cert',
      why: 'there is no certificate in this file',
    },
    {
      what: 'a certificate for a key',
      of: (folder) => {
        const { cert } = makeCertificate(folder, 'a')
        return { cert, key: cert, passphrase: '' }
      },
      flag: '--ssl-key',
      why: 'there is no private key in this file',
    },
    {
      what: 'a passphrase that nobody told',
      of: (folder) => ({ ...makeCertificate(folder, 'a', 'open sesame'), passphrase: '' }),
      flag: '--ssl-key',
      why: 'the key has a passphrase',
    },
    {
      what: 'another passphrase',
      of: (folder) => {
        const pair = makeCertificate(folder, 'a', 'open sesame')
        writeFileSync(pair.passphrase, 'shut sesame\n')
        return pair
      },
      flag: '--ssl-key-passphrase-file',
      why: 'the key does not open with this passphrase',
    },
  ])('$what is refused: $why', async ({ of, flag, why }) => {
    await using folder = await tempFolder()
    await expect(TlsIdentity.open(of(folder.path))).rejects.toMatchObject({
      flag,
      message: expect.stringContaining(why),
    })
  })

  test('are exchanged whole, or not at all', async () => {
    await using folder = await tempFolder()
    const said: string[] = []
    const tell = (fields: object, message: string) => said.push(`${message} ${JSON.stringify(fields)}`)
    const log: Log = { ...silentLog, info: tell, error: tell }
    const pair = makeCertificate(folder.path, 'a')
    const other = makeCertificate(folder.path, 'b')
    const identity = await TlsIdentity.open(pair, log)
    const changes: unknown[] = []
    identity.onChange = ({ cert }) => changes.push(cert)
    expect(await identity.reload(false)).toBe(false)
    copyFileSync(other.cert, pair.cert)
    expect(await identity.reload(false)).toBe(false)
    expect([changes, said.at(-1)]).toEqual([[], expect.stringMatching(/the old one holds .*this key is not the one/)])
    copyFileSync(other.key, pair.key)
    expect(await identity.reload(false)).toBe(true)
    expect(changes).toEqual([readFileSync(other.cert)])
  })
})
