import JSON5 from 'json5'

/** JSON5's parser is slow; text longer than this has to be plain JSON. */
const MAX_JSON5_CHARACTERS = 1_000_000

/**
 * Parses JSON, and what a shell leaves of it: the protocol's own curl line reaches the server as `{ more_points: 10 }`.
 * Throws SyntaxError when it is neither JSON nor JSON5.
 */
export function parseLooseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    if (text.length > MAX_JSON5_CHARACTERS) throw error
    return JSON5.parse(text)
  }
}
