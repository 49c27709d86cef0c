/** The last lines of the log, in memory, as `GET /logs` shows them. Bounded in lines and in bytes of a line. */

const LINES = 2000
const LINE_BYTES = 2000

const LEVELS: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
}
const HEADER_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'pid', 'hostname', 'msg', 'err'])

export class LogRing {
  readonly #lines: string[] = []

  /** Takes one record of the logger as it is written: a JSON object and a line end. */
  write(record: string): void {
    this.#lines.push(showRecord(record).slice(0, LINE_BYTES))
    if (this.#lines.length > LINES) this.#lines.shift()
  }

  last(count: number): readonly string[] {
    return this.#lines.slice(Math.max(0, this.#lines.length - count))
  }
}

/** One record as a line for people, in the manner of AIAA's log. Stacks stay in the process's own output. */
function showRecord(text: string): string {
  let record: Record<string, unknown>
  try {
    record = JSON.parse(text) as Record<string, unknown>
  } catch {
    return text.trimEnd()
  }
  const time = new Date(Number(record.time)).toISOString().replace('T', ' ').replace('Z', '')
  const fields = Object.entries(record)
    .filter(([name]) => !HEADER_FIELDS.has(name))
    .map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : String(value)}`)
  const level = LEVELS[Number(record.level)] ?? String(record.level)
  return `[${time}] [pid ${record.pid}] [AIDANT_${level}] - ${[record.msg, ...fields].join(' ')}`
}
