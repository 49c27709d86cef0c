import JSON5 from 'json5'

/** JSON5 is parsed in JavaScript, character by character; what needs it is written by hand and small. */
const MOST_JSON5_CHARACTERS = 1024 * 1024

/**
 * Parses JSON, and what a shell leaves of it: the protocol's own curl line reaches the server as `{ more_points: 10 }`.
 * Throws the SyntaxError of the strict parser when it is neither JSON nor JSON5, since JSON is what clients mean to send.
 */
export function parseLooseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (strict) {
    if (text.length > MOST_JSON5_CHARACTERS) throw strict
    try {
      return JSON5.parse(text)
    } catch {
      throw strict
    }
  }
}
