/** `npm start`: installs and builds what is missing, then serves; everything after `--` goes to `aidant serve`. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildIfNeeded } from './build.mjs'
import { installIfNeeded, ROOT } from './install.mjs'

installIfNeeded()
buildIfNeeded()
const program = join(ROOT, 'dist/cli/main.js')
process.argv.splice(1, process.argv.length, program, 'serve', ...process.argv.slice(2))
await import(pathToFileURL(program).href)
