/** The picture size that a compressed codestream itself states: JPEG, JPEG-LS, JPEG 2000 (bare or in its JP2 box). */

export interface CodestreamSize {
  readonly width: number
  readonly height: number
  readonly components: number
}

/** Undefined when the bytes are no such codestream, or end before they say. */
export function codestreamSize(bytes: Uint8Array): CodestreamSize | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 16) return undefined
  if (view.getUint16(0) === 0xffd8) return jpegSize(view)
  const start = view.getUint32(4) === 0x6a502020 ? indexOfSiz(bytes) : view.getUint32(0) === 0xff4fff51 ? 2 : -1
  return start < 0 ? undefined : jpeg2000Size(view, start)
}

/**
 * Whether the codestream ends with its end marker (the same two bytes in the whole JPEG family), zero padding aside. Decoders
 * fill in what a stream that was cut off lacks, and say nothing.
 */
export function codestreamEnds(bytes: Uint8Array): boolean {
  let end = bytes.length
  while (end > 0 && bytes[end - 1] === 0) end--
  return end >= 2 && bytes[end - 2] === 0xff && bytes[end - 1] === 0xd9
}

function jpegSize(view: DataView): CodestreamSize | undefined {
  let at = 2
  while (at + 10 <= view.byteLength) {
    if (view.getUint8(at) !== 0xff) return undefined
    const marker = view.getUint8(at + 1)
    if (marker === 0xff) {
      at++
      continue
    }
    const startOfFrame = (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) || marker === 0xf7
    if (startOfFrame)
      return { height: view.getUint16(at + 5), width: view.getUint16(at + 7), components: view.getUint8(at + 9) }
    const bare = marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)
    at += bare ? 2 : 2 + view.getUint16(at + 2)
  }
  return undefined
}

/** SIZ must follow SOC at once. */
function indexOfSiz(bytes: Uint8Array): number {
  const at = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf('ff4fff51', 0, 'hex')
  return at < 0 ? -1 : at + 2
}

function jpeg2000Size(view: DataView, siz: number): CodestreamSize | undefined {
  if (siz + 40 > view.byteLength) return undefined
  const width = view.getUint32(siz + 6) - view.getUint32(siz + 14)
  const height = view.getUint32(siz + 10) - view.getUint32(siz + 18)
  return { width, height, components: view.getUint16(siz + 38) }
}
