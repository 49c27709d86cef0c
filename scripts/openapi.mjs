/** `npm run openapi`: writes openapi/openapi.json from the routes; with `--check` it only says whether that would change it. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildIfNeeded } from './build.mjs'
import { fail, installIfNeeded, ROOT } from './install.mjs'

installIfNeeded()
buildIfNeeded()
const { describeApi } = await import(pathToFileURL(join(ROOT, 'dist/app.js')).href)
const text = `${JSON.stringify(await describeApi(), undefined, 2)}\n`
const file = join(ROOT, 'openapi/openapi.json')
if (!process.argv.includes('--check')) writeFileSync(file, text)
else if (readFileSync(file, 'utf8') !== text)
  fail('openapi/openapi.json is not what the routes say; run `npm run openapi` and commit it')
