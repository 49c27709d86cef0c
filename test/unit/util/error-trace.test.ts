import { expect, it } from 'vitest'
import { AppError, toErrorRecord } from '../../../src/errors.js'
import { LogRing } from '../../../src/observability/log-ring.js'
import { createLogger } from '../../../src/observability/logger.js'
import { errorTrace, lastWords } from '../../../src/util/error-trace.js'

/** As libraries throw: the message quotes the data set. */
function quoting(message: string, more: object = {}): Error {
  return Object.assign(new RangeError(message), more)
}

it.each([
  { what: 'its message', error: quoting('value "Doe^Jane" is too long') },
  { what: 'a message of several lines', error: quoting('bad:\nDoe^Jane\n  more Doe') },
  { what: 'lines of a message that look like frames', error: quoting('bad\n    at Doe (/Doe/Doe.js:1:1)\nDoe') },
  { what: 'its cause', error: new Error('outer', { cause: quoting('Doe') }) },
  { what: 'a cause of our own words', error: new AppError('UNREADABLE_IMAGE', 'cut short', { cause: quoting('Doe') }) },
  { what: 'a string that was thrown', error: 'Doe' },
  { what: 'its name', error: quoting('x', { name: 'Doe^Jane, a patient' }) },
  { what: 'its code', error: quoting('x', { code: 'the patient is Doe' }) },
  { what: 'its own fields', error: quoting('x', { value: 'Doe', path: '/tmp/Doe.dcm' }) },
])('of an error neither trace, record nor log shows $what', ({ error }) => {
  const ring = new LogRing()
  const written: string[] = []
  const log = createLogger('info', ring, { write: (line: string) => void written.push(line) })
  log.error({ err: error }, 'request failed')
  const { message, stack } = toErrorRecord(error)
  const shown = [errorTrace(error), message, stack, ...written, ...ring.last(10)].join('\n')
  expect(shown).not.toContain('Doe')
})

it('shows the type, the code and where an error was thrown, of causes too', () => {
  const cause = quoting('no', { code: 'ENOENT' })
  const trace = errorTrace(new TypeError('no', { cause }))
  expect(trace).toMatch(/^TypeError\n\s+at .*error-trace\.test\.ts:\d+:\d+/)
  expect(trace).toMatch(/\ncaused by RangeError ENOENT\n\s+at quoting .*error-trace\.test\.ts/)
})

it('of the last words of a process keeps how it ended, and nothing of what it read', () => {
  const output = [
    '/app/reader.js:10',
    "  throw new Error('Doe^Jane')",
    'Error: Doe^Jane is no date',
    '    at read (/app/reader.js:10:3)',
    'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory',
    "terminate called after throwing an instance of 'std::bad_alloc'",
    '  what():  Doe',
  ].join('\n')
  expect(lastWords(output).split('\n')).toEqual([
    'Error',
    '    at read (/app/reader.js:10:3)',
    'FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory',
    "terminate called after throwing an instance of 'std::bad_alloc'",
  ])
})
