/**
 * What the log may say of an error that is not in our own words: its type, its code and where it was thrown. Messages of
 * libraries quote the files and values they were given, and those are a patient's.
 */

/** Causes of causes; a chain that is longer says nothing new. */
const MAX_CAUSES = 5
const FRAME = /^\s+at (?:.+ \()?(?:node:|file:|\/|[A-Za-z]:\\|<anonymous>|native)[^()\n]*?(?::\d+){0,2}\)?$/
const NAME = /^[A-Za-z_$][\w$]{0,63}$/
const CODE = /^[A-Z][A-Z0-9_]{1,63}$/

/** Type, code and frames of an error and of its causes, as lines of a stack. */
export function errorTrace(error: unknown): string {
  const lines: string[] = []
  let next = error
  for (let depth = 0; depth <= MAX_CAUSES && next !== undefined && next !== null; depth++) {
    lines.push(`${depth === 0 ? '' : 'caused by '}${typeOf(next)}`)
    if (!(next instanceof Error)) break
    lines.push(...framesOf(next))
    next = next.cause
  }
  return lines.join('\n')
}

function typeOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return `a ${typeof thrown}`
  const { code } = thrown as NodeJS.ErrnoException
  const name = NAME.test(thrown.name) ? thrown.name : 'Error'
  return typeof code === 'string' && CODE.test(code) ? `${name} ${code}` : name
}

/** A message may itself have lines that look like frames, so it is cut off before they are looked for. */
function framesOf({ stack = '', message }: Error): string[] {
  const at = message === '' ? -1 : stack.indexOf(message)
  const behind = at < 0 ? stack : stack.slice(at + message.length)
  return behind.split('\n').filter((line) => FRAME.test(line))
}

/** How V8, the C++ runtime and the system begin to say why a process ends; what follows may quote anything. */
const LAST_WORDS =
  /^(?:FATAL ERROR: [\w -]+|# Fatal error in|terminate called after throwing an instance of '[\w:]+'|Segmentation fault|(?:[A-Z]\w*)?Error(?=:|$))/

/** The lines of a process's last output that say how it ended, and nothing of what it worked on. */
export function lastWords(output: string): string {
  return output
    .split('\n')
    .flatMap((line) => (FRAME.test(line) ? line : (LAST_WORDS.exec(line.trim())?.[0] ?? [])))
    .join('\n')
}
