/** Which licences a dependency may have (scripts/notice.mjs). */
import { expect, it } from 'vitest'

interface Survey {
  readonly packages: readonly { readonly name: string }[]
  readonly problems: readonly string[]
}
type Entry = { readonly license?: string; readonly dev?: boolean; readonly optional?: boolean }

const { surveyLicences } = (await import(new URL('../../scripts/notice.mjs', import.meta.url).href)) as {
  surveyLicences(lock: { packages: Record<string, Entry & { version: string }> }): Survey
}
const survey = (entry: Entry) =>
  surveyLicences({
    packages: { '': { version: '1.0.0' }, 'node_modules/a/node_modules/b': { version: '2.0.0', ...entry } },
  })

it.each([
  { name: 'MIT', entry: { license: 'MIT' } },
  { name: 'a choice, one of which is allowed', entry: { license: '(GPL-3.0-only OR MIT)' } },
  { name: 'all of several, all allowed', entry: { license: 'Apache-2.0 AND LGPL-3.0-or-later', optional: true } },
  { name: 'a licence for tools, of a tool', entry: { license: 'MPL-2.0', dev: true } },
])('$name passes', ({ entry }) => {
  expect(survey(entry).problems).toEqual([])
})

it.each([
  { name: 'GPL', entry: { license: 'GPL-3.0-only' } },
  { name: 'GPL among several that all hold', entry: { license: 'MIT AND GPL-2.0-or-later' } },
  { name: 'AGPL of a tool', entry: { license: 'AGPL-3.0-only', dev: true } },
  { name: 'a licence for tools, of what is delivered', entry: { license: 'MPL-2.0' } },
  { name: 'words that are no licence', entry: { license: 'SEE LICENSE IN EULA.txt' } },
  { name: 'nothing said', entry: {} },
])('$name is refused', ({ entry }) => {
  expect(survey(entry).problems).toEqual([expect.stringMatching(/^b 2\.0\.0 /)])
})

it('what only developers use is not listed', () => {
  expect(survey({ license: 'MIT' }).packages).toMatchObject([{ name: 'b' }])
  expect(survey({ license: 'MIT', dev: true }).packages).toEqual([])
})
