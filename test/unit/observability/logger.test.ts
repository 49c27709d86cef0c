import { expect, test } from 'vitest'
import { LogRing } from '../../../src/observability/log-ring.js'
import { createLogger } from '../../../src/observability/logger.js'

function logged(write: (log: ReturnType<typeof createLogger>) => void, level: 'info' | 'trace' = 'info') {
  const ring = new LogRing()
  const written: string[] = []
  const log = createLogger(level, ring, { write: (line: string) => void written.push(line) })
  write(log)
  return { written, lines: ring.last(100) }
}

test('a record goes to the output as JSON and to the ring as a line for people', () => {
  const { written, lines } = logged((log) => log.info({ model: 'spleen', timings: { infer: 12 } }, 'job done'))
  expect(JSON.parse(written[0]!)).toMatchObject({ level: 30, model: 'spleen', msg: 'job done' })
  expect(lines[0]).toMatch(/^\[.{23}\] \[pid \d+\] \[AIDANT_INFO\] - job done model=spleen timings=\{"infer":12\}$/)
})

test('what might name a patient is unreadable, wherever it got in', () => {
  const { written, lines } = logged((log) => {
    log.info({ params: { name: 'Doe' }, patient_name: 'Doe', filename: 'Doe.nii', authorization: 'Doe' }, 'oops')
    log.info({ request: { params: 'Doe', cookie: 'Doe', patient_id: 'Doe' } }, 'oops')
    log.trace({ busboyOptions: { headers: { authorization: 'Doe' } } }, 'oops')
  }, 'trace')
  expect(written).toHaveLength(3)
  expect([...written, ...lines].join()).not.toContain('Doe')
})

test('below the level nothing is written', () => {
  expect(logged((log) => log.debug('hidden')).written).toEqual([])
})

test('the ring keeps the last lines, and no line without end', () => {
  const ring = new LogRing()
  for (let i = 0; i < 2500; i++) ring.write(`{"level":30,"time":0,"pid":1,"msg":"${i}"}\n`)
  ring.write(`{"level":30,"time":0,"pid":1,"msg":"${'x'.repeat(100_000)}"}\n`)
  expect(ring.last(1_000_000)).toHaveLength(2000)
  expect(ring.last(2)[0]).toMatch(/ - 2499$/)
  expect(ring.last(1)[0]!.length).toBeLessThan(3000)
  expect(ring.last(0)).toEqual([])
})
