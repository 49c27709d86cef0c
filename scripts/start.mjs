/** `npm start`: installs and builds what is missing, then serves; everything after `--` goes to `aidant serve`. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildIfNeeded } from './build.mjs'
import { installIfNeeded, ROOT } from './install.mjs'

installIfNeeded()
buildIfNeeded()
if (process.env.npm_lifecycle_event) stopWithParent()
const program = join(ROOT, 'dist/cli/main.js')
process.argv.splice(1, process.argv.length, program, 'serve', ...process.argv.slice(2))
await import(pathToFileURL(program).href)

/**
 * npm hands SIGTERM to the shell between it and us, and most shells end without handing it on. Our parent is then another
 * process, and that is our signal. (A process supervisor does better to run `node scripts/start.mjs` itself.)
 */
function stopWithParent() {
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    process.kill(process.pid, 'SIGTERM')
  }, 200)
  timer.unref()
}
