/** multipart/related bodies (RFC 2387), part by part, without holding any of them. */
import { AppError } from '../errors.js'

const MAX_HEADER_BYTES = 16 * 1024
const LINE_END = Buffer.from('\r\n')
const HEADERS_END = Buffer.from('\r\n\r\n')

/** The boundary that a Content-Type names, or undefined. */
export function boundaryOf(contentType: string): string | undefined {
  const match = /;\s*boundary=(?:"([^"]{1,200})"|([^\s;"]{1,200}))/i.exec(contentType)
  return match?.[1] ?? match?.[2]
}

/**
 * Yields the body of each part as an async sequence of chunks; a part must be read to its end before the next is asked
 * for. Throws FETCH_FAILED when the body is no multipart body or ends early.
 */
export async function* multipartParts(
  body: AsyncIterable<Buffer>,
  boundary: string,
): AsyncGenerator<AsyncGenerator<Buffer>> {
  const chunks = body[Symbol.asyncIterator]()
  const delimiter = Buffer.from(`\r\n--${boundary}`)
  // As if a line had just ended, so that the first delimiter looks like all others.
  let rest: Buffer = LINE_END
  const more = async (): Promise<void> => {
    const next = await chunks.next()
    if (next.done) throw new AppError('FETCH_FAILED', 'the reply of the server ended in the middle of a file')
    rest = rest.length === 0 ? next.value : Buffer.concat([rest, next.value])
  }
  async function* upToDelimiter(): AsyncGenerator<Buffer> {
    for (;;) {
      const at = rest.indexOf(delimiter)
      if (at >= 0) {
        if (at > 0) yield rest.subarray(0, at)
        rest = rest.subarray(at + delimiter.length)
        return
      }
      const safe = rest.length - delimiter.length
      if (safe > 0) {
        yield rest.subarray(0, safe)
        rest = rest.subarray(safe)
      }
      await more()
    }
  }
  for await (const _preamble of upToDelimiter()) {
    // RFC 2046 lets text stand before the first part; nobody needs it.
  }
  for (;;) {
    while (rest.length < 2) await more()
    if (rest[0] === 0x2d && rest[1] === 0x2d) return
    let end = rest.indexOf(HEADERS_END)
    while (end < 0) {
      if (rest.length > MAX_HEADER_BYTES)
        throw new AppError('FETCH_FAILED', 'the server sent no readable multipart body')
      await more()
      end = rest.indexOf(HEADERS_END)
    }
    // The blank line's own line end may be the delimiter's, when a part is empty.
    rest = rest.subarray(end + 2)
    yield (async function* () {
      let blank = LINE_END.length
      for await (const chunk of upToDelimiter()) {
        if (chunk.length > blank) yield chunk.subarray(blank)
        blank = Math.max(0, blank - chunk.length)
      }
    })()
  }
}
