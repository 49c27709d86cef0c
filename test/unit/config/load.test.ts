import { describe, expect, it, test } from 'vitest'
import { ConfigError, loadConfig, unknownVariables } from '../../../src/config/load.js'
import { SETTINGS } from '../../../src/config/schema.js'

const problemsOf = (words: readonly string[], env: Record<string, string> = {}): readonly string[] => {
  try {
    loadConfig(words, env)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

it.each([
  { name: 'a flag and its value', words: ['--port', '6000'], want: { port: 6000 } },
  { name: 'a flag with =', words: ['--port=6000'], want: { port: 6000 } },
  { name: 'dashes', words: ['--admin-hosts', 'a'], want: { adminHosts: ['a'] } },
  { name: 'underscores, as AIAA spells them', words: ['--admin_hosts', 'a'], want: { adminHosts: ['a'] } },
  {
    name: 'a list by commas, spaces or repetition',
    words: ['--admin-hosts', 'a, b', '--admin-hosts=c'],
    want: { adminHosts: ['a', 'b', 'c'] },
  },
  { name: 'a bare boolean', words: ['--auto_reload'], want: { autoReload: true } },
  { name: 'a boolean with a word', words: ['--auto_reload', 'true'], want: { autoReload: true } },
  {
    name: 'a boolean with a number',
    words: ['--debug', '1', '--port', '1'],
    want: { debug: true, logLevel: 'debug', port: 1 },
  },
  { name: 'a boolean that says no', words: ['--auto-reload=false'], want: { autoReload: false } },
  { name: 'a boolean negated', words: ['--no-auto-reload'], want: { autoReload: false } },
  { name: 'a bare boolean before another flag', words: ['--debug', '--port', '7'], want: { debug: true, port: 7 } },
  { name: 'bytes with a unit', words: ['--max-upload-bytes', '512MiB'], want: { maxUploadBytes: 512 * 1024 * 1024 } },
  { name: 'bytes with a short unit', words: ['--max-upload-bytes', '1.5g'], want: { maxUploadBytes: 1.5 * 1024 ** 3 } },
  { name: 'plain bytes', words: ['--max-upload-bytes', '1000'], want: { maxUploadBytes: 1000 } },
  { name: 'seconds with a unit', words: ['--keep-alive', '15m'], want: { keepAlive: 900 } },
  { name: 'never', words: ['--keep-alive', '-1'], want: { keepAlive: -1 } },
  { name: 'a device', words: ['--device', 'cuda:1'], want: { device: 'cuda:1' } },
  { name: 'a count of runners', words: ['--instances', '3'], want: { instances: 3 } },
  { name: 'runners as they are worth it', words: ['--instances', 'auto'], want: { instances: 'auto' } },
])('takes $name', ({ words, want }) => expect(loadConfig(words, {})).toMatchObject(want))

describe('precedence', () => {
  const env = { AIDANT_PORT: '7000' }
  test('flags beat the environment', () => expect(loadConfig(['--port', '6000'], env).port).toBe(6000))
  test('the environment beats the default', () => expect(loadConfig([], env).port).toBe(7000))
  test('an empty variable is none', () => expect(loadConfig([], { AIDANT_PORT: '' }).port).toBe(5000))
  test('a service link of Kubernetes is none', () =>
    expect(loadConfig([], { AIDANT_PORT: 'tcp://10.0.0.1:5000' }).port).toBe(5000))
  test('a setting that no service gives is one, whatever it looks like', () =>
    expect(problemsOf([], { AIDANT_ADMIN_HOSTS: 'tcp://10.0.0.0/99' })).toHaveLength(1))
})

it.each([
  { words: ['--auto_reload', 'maybe'], says: /^--auto-reload: must be true or false, not "maybe"$/ },
  { words: ['--allowed-hosts', 'name:5000'], says: /^--allowed-hosts: .*without scheme, port or pattern/ },
  { words: ['--allowed-hosts', '*.hospital.example'], says: /^--allowed-hosts: .*pattern/ },
  { words: ['--cors-origins', 'viewer.example'], says: /^--cors-origins: .*https:\/\/viewer/ },
  { words: ['--cors-origins', 'https://viewer.example/app'], says: /^--cors-origins: / },
  { words: ['--cors-origins', 'https://*.example'], says: /^--cors-origins: / },
  { words: ['--cors-origins', 'none,https://viewer.example'], says: /^--cors-origins: none stands alone/ },
  { words: ['--admin_hosts', '*,10.0.0.0/99'], says: /^--admin-hosts: .*10\.0\.0\.0\/8.*"\*,10\.0\.0\.0\/99"/ },
])('says which flag $words is wrong', ({ words, says }) => {
  const problems = problemsOf(words)
  expect(problems).toHaveLength(1)
  expect(problems[0]).toMatch(says)
})

describe('variables of the environment that are no settings', () => {
  it.each([
    { name: 'AIDANT_ADMINHOSTS', near: 'AIDANT_ADMIN_HOSTS' },
    { name: 'AIDANT_HOSTS', near: 'AIDANT_HOST' },
    { name: 'AIDANT_ALLOW_FETCHES', near: 'AIDANT_ALLOW_FETCH' },
    { name: 'AIDANT_MAX_UPLOAD_BYTE', near: 'AIDANT_MAX_UPLOAD_BYTES' },
    { name: 'AIDANTADMIN_HOSTS', near: 'AIDANT_ADMIN_HOSTS' },
    { name: 'AIDANT-ADMIN-HOSTS', near: 'AIDANT_ADMIN_HOSTS' },
    { name: 'AIDANT_ADMIN-HOSTS', near: 'AIDANT_ADMIN_HOSTS' },
    { name: 'Aidant.Admin.Hosts', near: 'AIDANT_ADMIN_HOSTS' },
    { name: 'AIDANT__PORT', near: 'AIDANT_PORT' },
    { name: 'aidant_admin_hosts', near: 'AIDANT_ADMIN_HOSTS' },
  ])('$name stops the start, which names $near', ({ name, near }) => {
    expect(problemsOf([], { [name]: '10.0.0.0/8' })).toEqual([`${name}: no such setting (did you mean ${near}?)`])
  })

  it.each([
    { name: 'AIDANT_SERVICE_HOST', value: '10.0.0.1' },
    { name: 'AIDANT_SERVICE_PORT_HTTP', value: '5000' },
    { name: 'AIDANT_PORT_5000_TCP_ADDR', value: '10.0.0.1' },
    { name: 'AIDANT_DICOM_SERVICE_PORT', value: '104' },
    { name: 'AIDANT_PROXY_PORT', value: 'tcp://10.0.0.2:80' },
    { name: 'AIDANT_OF_SOMEBODY_ELSE', value: '1' },
  ])('$name is passed over, and told', ({ name, value }) => {
    expect(problemsOf([], { [name]: value })).toEqual([])
    expect(unknownVariables({ [name]: value })).toEqual([{ name, near: undefined }])
  })

  it.each(['AIDANT_SERVER', 'AIDANT_PORT', 'AIDANTS', 'HOME'])('%s is none of them', (name) => {
    expect(unknownVariables({ [name]: '1' })).toEqual([])
  })
})

it('reports every problem at once, each naming where it was set', () => {
  const problems = problemsOf(['--prot', '1', '--max-queued-jobs', 'many', '--device', 'tpu', 'stray'], {
    AIDANT_PORT: '99999',
  })
  expect(problems).toHaveLength(5)
  expect(problems.join('\n')).toMatch(/--prot: no such flag \(did you mean --port\?\)/)
  expect(problems.join('\n')).toMatch(/--max-queued-jobs: must be a whole number, not "many"/)
  expect(problems.join('\n')).toMatch(/--device: must be auto, cpu, cuda or cuda:N, not "tpu"/)
  expect(problems.join('\n')).toMatch(/AIDANT_PORT: .*"99999"/)
  expect(problems.join('\n')).toMatch(/stray/)
})

it.each([
  { words: ['--port'], says: '--port: needs a value' },
  { words: ['--port', '--debug'], says: '--port: needs a value' },
  { words: ['--auto-reload=maybe'], says: '--auto-reload: must be true or false' },
  { words: ['--max-upload-bytes', '5 apples'], says: '--max-upload-bytes: must be a number of bytes' },
  { words: ['--request-deadline', '0'], says: '--request-deadline' },
  { words: ['--instances', '17'], says: '--instances: must be auto or a whole number from 1 to 16, not "17"' },
  { words: ['--instances', 'many'], says: '--instances: must be auto or a whole number from 1 to 16' },
  { words: ['--spare-keep-alive', '0'], says: '--spare-keep-alive' },
  { words: ['--no-auto-reload=false'], says: '--no-auto-reload: takes no value; write --auto-reload=false' },
  { words: ['--no-port'], says: '--no-port: no such flag' },
  { words: ['--zzzzzzzzzzzz'], says: '--zzzzzzzzzzzz: no such flag' },
])('refuses $words', ({ words, says }) => {
  const [first, ...more] = problemsOf(words)
  expect(first).toContain(says)
  expect(more).toEqual([])
})

it('has a help text, a unit and a valid default for every setting', () => {
  for (const setting of SETTINGS) {
    expect(setting.help.length).toBeGreaterThan(5)
    expect(setting.value).toMatch(/^[A-Z]+$/)
    expect(setting.env).toBe(`AIDANT_${setting.flag.slice(2).replaceAll('-', '_').toUpperCase()}`)
  }
})
