/** The `params` field of an upload: JSON, else JSON5, else a 400 that says what is wrong. */
import { AppError } from '../errors.js'
import { parseLooseJson } from './loose-json.js'

/** Deeper nesting than any params has (polygons of a volume nest four deep) and far less than a stack holds. */
const MOST_DEPTH = 64

/**
 * Absent, empty and `null` are `{}`. A shell turns the specification's own mask2polygon line into `{ more_points: 10 }`,
 * so text that is not JSON is tried as JSON5. Rejects BAD_PARAMS.
 */
export function parseParams(text: string | undefined): Record<string, unknown> {
  if (text === undefined || text.trim() === '') return {}
  checkDepth(text)
  const value = parseText(text)
  if (value === null) return {}
  if (typeof value !== 'object' || Array.isArray(value))
    throw new AppError(
      'BAD_PARAMS',
      `params must be a JSON object, not ${Array.isArray(value) ? 'an array' : `a ${typeof value}`}`,
    )
  if (Object.hasOwn(value, '__proto__')) throw new AppError('BAD_PARAMS', "params must not have a key '__proto__'")
  return value as Record<string, unknown>
}

function parseText(text: string): unknown {
  try {
    return parseLooseJson(text)
  } catch (strict) {
    const place = /position (\d+)/.exec((strict as Error).message)?.[1]
    throw new AppError('BAD_PARAMS', `params is not valid JSON${place === undefined ? '' : ` (character ${place})`}`, {
      cause: strict,
      hint: 'send one JSON object such as {"points": [[10, 20, 30]]}',
    })
  }
}

function checkDepth(text: string): void {
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (quoted) {
      if (code === 0x5c) i++
      else if (code === 0x22) quoted = false
    } else if (code === 0x22) quoted = true
    else if (code === 0x5b || code === 0x7b) {
      if (++depth > MOST_DEPTH) throw new AppError('BAD_PARAMS', `params nests deeper than ${MOST_DEPTH} levels`)
    } else if (code === 0x5d || code === 0x7d) depth--
  }
}
