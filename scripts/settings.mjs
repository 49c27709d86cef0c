/** `npm run settings`: writes the table of flags in README.md from the schema of the settings. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildIfNeeded } from './build.mjs'
import { installIfNeeded, ROOT } from './install.mjs'

installIfNeeded()
buildIfNeeded()
const { settingsTable } = await import(pathToFileURL(join(ROOT, 'dist/config/settings-table.js')).href)
const file = join(ROOT, 'README.md')
const text = readFileSync(file, 'utf8')
writeFileSync(file, text.replace(/(<!-- settings:.*?-->\n)[\s\S]*?(<!-- \/settings -->)/, `$1${settingsTable()}\n$2`))
