import { describe, expect, it } from 'vitest'
import { createFetchPolicy, type Lookup } from '../../../src/util/fetch-policy.js'

const NAMES: Record<string, string[]> = {
  localhost: ['127.0.0.1', '::1'],
  'pacs.example': ['10.1.2.3'],
  'evil.example': ['127.0.0.1'],
  'metadata.example': ['169.254.169.254'],
  'both.example': ['127.0.0.1', '10.1.2.3'],
  'six.example': ['fd12::5'],
  'mapped.example': ['::ffff:127.0.0.1'],
}
const lookup: Lookup = async (host) => {
  const found = NAMES[host]
  if (!found) throw new Error('ENOTFOUND')
  return found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
}

/** Every way to write this machine, its link and a private server, against rules that do not name them. */
const LOOPBACKS = [
  'localhost',
  'LOCALHOST',
  'localhost.',
  '127.0.0.1',
  '127.1',
  '127.9.8.7',
  '2130706433',
  '0x7f000001',
  '0177.0.0.1',
  '0.0.0.0',
  '0',
  '::1',
  '[::1]',
  '::',
  '::ffff:127.0.0.1',
  '[::ffff:7f00:1]',
  '::127.0.0.1',
  '64:ff9b::7f00:1',
  '2002:7f00:1::',
  'evil.example',
  'mapped.example',
]
const METADATA = [
  '169.254.169.254',
  '[::ffff:169.254.169.254]',
  '2852039166',
  'metadata.example',
  'fe80::1',
  'fe80::1%lo',
  'fd00:ec2::254',
]

describe('with no rule', () => {
  it.each([...LOOPBACKS, ...METADATA, 'pacs.example', '10.1.2.3', '8.8.8.8'])(
    '%s is refused, naming the flag',
    async (host) => {
      await expect(createFetchPolicy([], lookup).admit(host, 80)).rejects.toMatchObject(
        host.includes('%')
          ? { code: 'BAD_PARAMS' }
          : {
              code: 'FETCH_FORBIDDEN',
              message: expect.stringContaining('off'),
              hint: expect.stringContaining('--allow-fetch'),
            },
      )
    },
  )
})

describe('rules that do not name it', () => {
  const rules = [
    'pacs.example',
    '10.0.0.0/8',
    '0.0.0.0/0',
    '::/0',
    'evil.example',
    'metadata.example',
    'mapped.example',
  ]
  it.each([...LOOPBACKS, ...METADATA, '239.1.1.1', '255.255.255.255'])('refuse %s', async (host) => {
    await expect(createFetchPolicy(rules, lookup).admit(host, 80)).rejects.toMatchObject({
      code: expect.stringMatching(/FETCH_FORBIDDEN|BAD_PARAMS/),
    })
  })
})

describe('rules that name it', () => {
  it.each([
    { rule: '127.0.0.1', host: 'localhost', port: 80, address: '127.0.0.1' },
    { rule: 'localhost:8042', host: 'localhost', port: 8042, address: '127.0.0.1' },
    { rule: 'localhost:8042', host: 'LocalHost', port: 8042, address: '127.0.0.1' },
    { rule: '[::1]:8042', host: 'localhost', port: 8042, address: '::1' },
    { rule: '::1', host: '[::1]', port: 80, address: '::1' },
    { rule: '127.0.0.0/8:11112', host: '127.0.0.1', port: 11112, address: '127.0.0.1' },
    { rule: '0.0.0.0:11112', host: '0.0.0.0', port: 11112, address: '127.0.0.1' },
    { rule: '127.0.0.1', host: '2130706433', port: 80, address: '127.0.0.1' },
    { rule: '127.0.0.1', host: '::ffff:127.0.0.1', port: 80, address: '127.0.0.1' },
    { rule: '10.0.0.0/8', host: 'pacs.example', port: 104, address: '10.1.2.3' },
    { rule: '10.0.0.0:104/8', host: 'pacs.example', port: 104, address: '10.1.2.3' },
    { rule: 'pacs.example', host: 'PACS.example.', port: 104, address: '10.1.2.3' },
    { rule: 'pacs.example:104/10.0.0.0/8', host: 'pacs.example', port: 104, address: '10.1.2.3' },
    { rule: 'both.example', host: 'both.example', port: 104, address: '10.1.2.3' },
    { rule: 'fd00::/8', host: 'six.example', port: 104, address: 'fd12::5' },
    { rule: '0.0.0.0/0', host: '8.8.8.8', port: 443, address: '8.8.8.8' },
    { rule: '169.254.169.254', host: 'metadata.example', port: 80, address: '169.254.169.254' },
  ])('$rule admits $host:$port at $address', async ({ rule, host, port, address }) => {
    await expect(createFetchPolicy([rule], lookup).admit(host, port)).resolves.toMatchObject({ address, port })
  })

  it.each([
    { rule: 'localhost:8042', host: 'localhost', port: 8043 },
    { rule: '127.0.0.1:80', host: '127.0.0.1', port: 81 },
    { rule: '127.0.0.1', host: '127.0.0.2', port: 80 },
    { rule: 'pacs.example', host: 'other.pacs.example', port: 80 },
    { rule: 'pacs.example', host: '10.1.2.3', port: 80 },
    { rule: 'pacs.example:104/192.168.0.0/16', host: 'pacs.example', port: 104 },
    { rule: '10.0.0.0/8', host: '11.0.0.1', port: 80 },
  ])('$rule does not admit $host:$port', async ({ rule, host, port }) => {
    NAMES['other.pacs.example'] = ['10.1.2.3']
    await expect(createFetchPolicy([rule], lookup).admit(host, port)).rejects.toMatchObject({ code: 'FETCH_FORBIDDEN' })
  })

  it('asks the resolver once, so that an answer that changes afterwards is never connected to', async () => {
    const answers = ['10.1.2.3', '127.0.0.1']
    const changing: Lookup = async () => [{ address: answers.shift()!, family: 4 }]
    const policy = createFetchPolicy(['10.0.0.0/8'], changing)
    await expect(policy.admit('turncoat.example', 80)).resolves.toMatchObject({ address: '10.1.2.3' })
    await expect(policy.admit('turncoat.example', 80)).rejects.toMatchObject({ code: 'FETCH_FORBIDDEN' })
  })
})

it.each([
  '*',
  '*:104',
  '*.hospital.example',
  '10.0.*',
  '',
  ':80',
  'a b',
  'host:0',
  'host:99999',
  '10.0.0.0/33',
  'host/8',
  'http://host',
  'user@host',
  '10.0.0.0/-1',
])("'%s' is no rule", (rule) => expect(() => createFetchPolicy([rule], lookup)).toThrow(RangeError))

it.each(['', ' ', 'a/b', 'a?b', 'user@host', 'a#b', 'a:80', '[::1', 'a%00b'])("'%s' is no host", async (host) => {
  const policy = createFetchPolicy(['pacs.example'], lookup)
  await expect(policy.admit(host, 80)).rejects.toMatchObject({ code: 'BAD_PARAMS' })
})

it('an unknown name fails as such only where a rule names it', async () => {
  const policy = createFetchPolicy(['nobody.example', '10.0.0.0/8'], lookup)
  await expect(policy.admit('nobody.example', 80)).rejects.toMatchObject({ code: 'FETCH_FAILED' })
  await expect(policy.admit('noone.example', 80)).rejects.toMatchObject({ code: 'FETCH_FORBIDDEN' })
})
