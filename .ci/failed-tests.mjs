// failed-tests.mjs REPORT: of vitest's JSON report, each failed test with the first lines of why; a file that could not be loaded too.
import { existsSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'

const LINES_EACH = 12

const clipped = (message) =>
  message
    .split('\n')
    .slice(0, LINES_EACH)
    .map((line) => `    ${line.slice(0, 300)}\n`)
    .join('')

const [path] = process.argv.slice(2)
if (!existsSync(path)) {
  console.log(`FAILED: the tests left no report`)
  process.exit()
}
for (const file of JSON.parse(readFileSync(path, 'utf8')).testResults) {
  const name = relative(process.cwd(), file.name)
  const failed = file.assertionResults.filter((test) => test.status === 'failed')
  for (const test of failed)
    process.stdout.write(`FAILED: ${name}: ${test.fullName}\n${clipped(test.failureMessages.join('\n'))}`)
  if (failed.length === 0 && file.status === 'failed') process.stdout.write(`FAILED: ${name}\n${clipped(file.message)}`)
}
