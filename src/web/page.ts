import { readFileSync } from 'node:fs'

/** The page that browsers get at /: what this server is and where to go. Read once, at start. */
export function readPage(): string {
  return readFileSync(new URL('./index.html', import.meta.url), 'utf8')
}
