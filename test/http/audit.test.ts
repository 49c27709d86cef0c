/** The operator's changes in the audit log: every route that changes something, taken from the OpenAPI document. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { InjectOptions } from 'fastify'
import { expect, test } from 'vitest'
import { describeApi } from '../../src/app.js'
import { fakeRegistry, testApp } from '../helpers/test-app.js'
import { tempFolder } from '../helpers/volumes.js'

const ADMIN = 'root-0123456789abcdef'
const API = 'ward-0123456789abcdef'

/** An application with tokens and an audit log; `lines` are its own without the time. */
async function audited() {
  const folder = await tempFolder()
  const at = (name: string) => join(folder.path, name)
  writeFileSync(at('api'), `ward:${API}`, { mode: 0o600 })
  writeFileSync(at('admin'), `root:${ADMIN}`, { mode: 0o600 })
  let removed = 0
  const registry = { ...fakeRegistry(['spleen']), remove: async () => void removed++ }
  const flags = ['--api-token-file', at('api'), '--admin-token-file', at('admin'), '--audit-log', at('audit.jsonl')]
  const app = await testApp({ flags, services: { registry } })
  return {
    ...app,
    path: at('audit.jsonl'),
    removed: () => removed,
    ask: (ask: InjectOptions, token = ADMIN) =>
      app.inject({
        remoteAddress: '10.0.0.7',
        ...ask,
        headers: { host: '127.0.0.1', 'x-request-id': 'r1', ...ask.headers, authorization: `Bearer ${token}` },
      }),
    lines() {
      const text = readFileSync(at('audit.jsonl'), { encoding: 'utf8', flag: 'a+' }).trimEnd()
      return (text === '' ? [] : text.split('\n')).map((line) => {
        const { time, ...rest } = JSON.parse(line)
        expect(time).toMatch(/^\d{4}-.*Z$/)
        return rest
      })
    },
    async [Symbol.asyncDispose]() {
      await app[Symbol.asyncDispose]()
      await folder[Symbol.asyncDispose]()
    },
  }
}

const document = (await describeApi()) as {
  paths: Record<string, Record<string, { operationId: string; tags: string[] }>>
}
const changes = Object.entries(document.paths).flatMap(([path, verbs]) =>
  Object.entries(verbs).flatMap(([verb, { operationId, tags }]) =>
    tags[0] === 'admin' && verb !== 'get'
      ? [{ action: operationId, method: verb.toUpperCase() as 'PUT', url: path.replace('{name}', 'spleen') }]
      : [],
  ),
)

test('there are changes to look for', () => {
  expect(changes.length).toBeGreaterThanOrEqual(5)
})

test.each(changes)('$action is written down with who, from where, which model and how it ended', async (change) => {
  const { action, method, url } = change
  await using app = await audited()
  const reply = await app.ask({ method, url, payload: { secret: 'content' } })
  const line = { request: 'r1', who: 'root', address: '10.0.0.7', action, model: 'spleen' }
  const outcome = reply.statusCode < 400 ? 'done' : 'refused'
  const code = reply.statusCode < 400 ? undefined : reply.json().code
  expect(app.lines()).toEqual([
    { ...line, outcome: 'begun' },
    { ...line, outcome, status: reply.statusCode, ...(code === undefined ? {} : { code }) },
  ])
  expect(readFileSync(app.path, 'utf8')).not.toContain('content')
})

test('reading, a draft and what was not let in write nothing', async () => {
  await using app = await audited()
  await app.ask({ url: '/admin/model' })
  await app.ask({ url: '/admin/ps' })
  await app.ask({ method: 'PUT', url: '/admin/model/spleen?draft=true', payload: {} })
  expect((await app.ask({ method: 'DELETE', url: '/admin/model/spleen' }, API)).statusCode).toBe(403)
  expect((await app.ask({ method: 'DELETE', url: '/admin/model/spleen' }, 'x'.repeat(20))).statusCode).toBe(401)
  expect(app.lines()).toEqual([])
})

test('a model whose name is none is not named', async () => {
  await using app = await audited()
  await app.ask({ method: 'DELETE', url: `/admin/model/${encodeURIComponent('Doe"}\n{')}` })
  expect(app.lines()[0]).toEqual({
    request: 'r1',
    who: 'root',
    address: '10.0.0.7',
    action: 'deleteModel',
    outcome: 'begun',
  })
})

test('what cannot be written down is not done', async () => {
  await using app = await audited()
  rmSync(app.path, { force: true })
  mkdirSync(app.path)
  const reply = await app.ask({ method: 'DELETE', url: '/admin/model/spleen' })
  expect([reply.statusCode, reply.json().hint, app.removed()]).toEqual([503, expect.stringContaining('--audit-log'), 0])
  expect((await app.ask({ url: '/metrics' })).body).toContain('aidant_audit_failures_total')
  rmSync(app.path, { recursive: true })
  expect((await app.ask({ method: 'DELETE', url: '/admin/model/spleen' })).statusCode).toBe(200)
  expect(app.removed()).toBe(1)
})
