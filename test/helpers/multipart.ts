/** Multipart bodies for requests, and a strict reader for replies. */

export interface Part {
  readonly name: string
  readonly body: Buffer | string
  readonly filename?: string
  readonly type?: string
}

/** A body with a payload and headers for `inject`; `boundary` and the header's spelling as a client would choose them. */
export function form(parts: readonly Part[], boundary = 'test-boundary', quoted = false) {
  const chunks: Buffer[] = []
  for (const { name, body, filename, type } of parts) {
    const file = filename === undefined ? '' : `; filename="${filename}"`
    const header = type === undefined ? '' : `Content-Type: ${type}\r\n`
    chunks.push(Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; name="${name}"${file}\r\n${header}\r\n`))
    chunks.push(Buffer.from(body), Buffer.from('\r\n'))
  }
  chunks.push(Buffer.from(`--${boundary}--\r\n`))
  const payload = Buffer.concat(chunks)
  const value = quoted ? `"${boundary}"` : boundary
  return { payload, headers: { 'content-type': `multipart/form-data; boundary=${value}` } }
}

export interface ReadPart {
  readonly name: string
  readonly filename: string | undefined
  readonly headers: readonly string[]
  readonly body: Buffer
}

/**
 * Reads a reply as the pickiest known client does (spec 2.0): the body starts with the boundary and ends with its closing
 * form, only \r\n ends lines, names are quoted, the disposition's order is form-data, name, filename. Throws on anything else.
 */
export function readMultipart(contentType: string, body: Buffer): ReadPart[] {
  const boundary = /^multipart\/form-data; boundary=([0-9A-Za-z'()+_,./:=?-]{1,70})$/.exec(contentType)?.[1]
  if (boundary === undefined) throw new Error(`not a plain multipart/form-data type: ${contentType}`)
  const start = Buffer.from(`--${boundary}\r\n`)
  const between = Buffer.from(`\r\n--${boundary}`)
  if (!body.subarray(0, start.length).equals(start)) throw new Error('the body does not start with the boundary')
  const parts: ReadPart[] = []
  let at = start.length
  for (;;) {
    const end = body.indexOf(between, at)
    if (end < 0) throw new Error('a part has no end')
    parts.push(readPart(body.subarray(at, end)))
    at = end + between.length
    const next = body.toString('latin1', at, at + 2)
    at += 2
    if (next === '--') break
    if (next !== '\r\n') throw new Error('a boundary is followed by something else')
  }
  const rest = body.toString('latin1', at)
  if (rest !== '\r\n' && rest !== '') throw new Error('something follows the closing boundary')
  return parts
}

function readPart(bytes: Buffer): ReadPart {
  const gap = bytes.indexOf('\r\n\r\n')
  if (gap < 0) throw new Error('a part has no body')
  const head = bytes.toString('latin1', 0, gap)
  if (/(^|[^\r])\n/.test(head)) throw new Error('a header ends without \\r')
  const headers = head.split('\r\n')
  const disposition = /^Content-Disposition: form-data; name="([^"]+)"(?:; filename="([^"]+)")?$/.exec(headers[0]!)
  if (!disposition) throw new Error(`not a usable disposition: ${headers[0]}`)
  return { name: disposition[1]!, filename: disposition[2], headers, body: bytes.subarray(gap + 4) }
}
