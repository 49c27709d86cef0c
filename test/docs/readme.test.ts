/** README.md against the code: the table of flags, and every route that it shows. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { describeApi } from '../../src/app.js'
import { settingsTable } from '../../src/config/settings-table.js'

const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8')

test('the table of flags is what the settings say; npm run settings renews it', () => {
  const table = /<!-- settings:.*?-->\n([\s\S]*?)\n<!-- \/settings -->/.exec(readme)?.[1]
  expect(table).toBe(settingsTable())
})

test('every route that it calls exists, and every route but the docs is called', async () => {
  const { paths } = (await describeApi()) as { paths: Record<string, Record<string, unknown>> }
  const offered = Object.entries(paths).flatMap(([path, verbs]) =>
    Object.keys(verbs).map((verb) => ({
      verb,
      path,
      pattern: new RegExp(`^${path.replace(/\{[^}]+\}/g, '[^/]+')}/?$`),
    })),
  )
  const commands = readme.replaceAll('\\\n', ' ').match(/curl [^\n]*\$BASE[^\n]*/g) ?? []
  const called = commands.map((line) => ({
    verb: (/-X (\w+)/.exec(line)?.[1] ?? (line.includes(' -F ') ? 'POST' : 'GET')).toLowerCase(),
    path: /\$BASE([^?" ]*)/.exec(line)![1]!,
  }))
  const missing = called.filter(({ verb, path }) => !offered.some((one) => one.verb === verb && one.pattern.test(path)))
  expect(missing).toEqual([])
  const uncalled = offered.filter(
    ({ verb, pattern }) => !called.some((one) => one.verb === verb && pattern.test(one.path)),
  )
  expect(uncalled.map(({ verb, path }) => `${verb} ${path}`)).toEqual(['get /health'])
})
