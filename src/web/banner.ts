/** What went wrong, in words, with what can be done about it. One thing at a time; the next replaces it. */
import { ApiError } from './api.js'
import { button, byId, make } from './dom.js'

export interface Remedy {
  readonly text: string
  readonly act: () => void
}

export class Banner {
  readonly #element = byId('banner')

  show(text: string, ...remedies: readonly Remedy[]): void {
    const buttons = remedies.map(({ text: name, act }) =>
      button(name, () => {
        this.clear()
        act()
      }),
    )
    this.#element.replaceChildren(
      make('p', {}, text),
      ...buttons,
      button('Dismiss', () => this.clear()),
    )
  }

  clear(): void {
    this.#element.replaceChildren()
  }
}

/** An error as a sentence or two for the person at the screen. */
export function inWords(error: unknown): string {
  if (!(error instanceof ApiError))
    return `The page met a fault of its own: ${error instanceof Error ? error.message : String(error)}`
  const { status, message, hint, requestId, retryAfterSeconds } = error
  const more = [hint && `${sentence(hint)}`, status >= 500 && requestId && `Request ${requestId}.`]
    .filter(Boolean)
    .join(' ')
  switch (status) {
    case 0:
      return 'The server does not answer. What you have drawn is kept in this browser; it goes on when the server is back.'
    case 404:
    case 440:
      return error.code.startsWith('SESSION')
        ? 'The session has expired on the server. Upload the scan again to go on; your segments are kept.'
        : `${sentence(message)} ${more}`
    case 413:
      return `Too large for this server: ${sentence(message)} ${more}`
    case 415:
      return `The server cannot read this: ${sentence(message)} ${more}`
    case 503:
      return (
        `The server is busy: ${sentence(message)} ${more}` +
        (retryAfterSeconds === undefined ? '' : ` Try again in ${retryAfterSeconds} s.`)
      )
    default:
      return `${sentence(message)} ${more}`
  }
}

export function isSessionGone(error: unknown): boolean {
  return error instanceof ApiError && (error.code === 'SESSION_EXPIRED' || error.code === 'SESSION_NOT_FOUND')
}

function sentence(text: string): string {
  const capital = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(capital) ? capital : `${capital}.`
}
