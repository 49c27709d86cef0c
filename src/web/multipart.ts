/** The reply of an inference route: a part `params`, JSON, and with a result file a part `file`. */

export interface ReplyParts {
  readonly params: Readonly<Record<string, unknown>>
  readonly file: Uint8Array<ArrayBuffer> | undefined
}

/** Throws SyntaxError on a body without its parts. `contentType` is the reply's. */
export function parseReply(body: ArrayBuffer, contentType: string): ReplyParts {
  if (contentType.startsWith('application/json'))
    return { params: JSON.parse(new TextDecoder().decode(body)), file: undefined }
  const boundary = /boundary="?([^";]+)/.exec(contentType)?.[1]
  if (boundary === undefined) throw new SyntaxError('the reply does not name its boundary')
  const bytes = new Uint8Array(body)
  const delimiter = new TextEncoder().encode(`\r\n--${boundary}`)
  let params: ReplyParts['params'] | undefined
  let file: Uint8Array<ArrayBuffer> | undefined
  // The first delimiter has no line end before it; the head of a part ends with an empty line.
  let at = delimiter.length - 2
  while (at + 2 < bytes.length && !(bytes[at] === 0x2d && bytes[at + 1] === 0x2d)) {
    const headEnd = find(bytes, [13, 10, 13, 10], at)
    const end = headEnd < 0 ? -1 : find(bytes, delimiter, headEnd + 4)
    if (end < 0) throw new SyntaxError('the reply ends too early')
    const head = new TextDecoder('latin1').decode(bytes.subarray(at, headEnd))
    const content = bytes.subarray(headEnd + 4, end)
    if (head.includes('name="params"')) params = JSON.parse(new TextDecoder().decode(content))
    else file = content
    at = end + delimiter.length
  }
  if (params === undefined) throw new SyntaxError('the reply has no params')
  return { params, file }
}

function find(bytes: Uint8Array, needle: ArrayLike<number>, from: number): number {
  let at = bytes.indexOf(needle[0]!, from)
  while (at >= 0) {
    let i = 1
    while (i < needle.length && bytes[at + i] === needle[i]) i++
    if (i === needle.length) return at
    at = bytes.indexOf(needle[0]!, at + 1)
  }
  return -1
}
