/** What a compressed codestream says of itself: JPEG, JPEG-LS, JPEG 2000 (bare or in its JP2 box). */

export type CodestreamKind = 'jpeg' | 'jpeg-ls' | 'jpeg-2000'

export interface Codestream {
  readonly kind: CodestreamKind
  readonly width: number
  readonly height: number
  readonly components: number
  /** What the colours of three components are; undefined where the stream leaves that to its container. */
  readonly colour: 'rgb' | 'ybr' | undefined
  /** Whether its end marker is there; decoders fill in what a stream that was cut off lacks, and say nothing. */
  readonly ends: boolean
}

/** Undefined when the bytes are no such codestream, or end before they say what is in it. */
export function readCodestream(bytes: Uint8Array): Codestream | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (bytes.length < 16) return undefined
  if (view.getUint16(0) === 0xffd8) return readJpeg(view)
  const start = view.getUint32(4) === 0x6a502020 ? indexOfSoc(bytes) : view.getUint32(0) === 0xff4fff51 ? 0 : -1
  return start < 0 ? undefined : readJpeg2000(view, start)
}

function readJpeg(view: DataView): Codestream | undefined {
  const size = view.byteLength
  let frame: Pick<Codestream, 'kind' | 'width' | 'height' | 'components'> | undefined
  let colour: Codestream['colour']
  let at = 2
  while (at + 2 <= size) {
    // Inside a scan everything is data, but for markers: 0xff and neither a stuffed zero nor a restart behind it.
    if (view.getUint8(at) !== 0xff) {
      if (!frame) return undefined
      at++
      continue
    }
    const marker = view.getUint8(at + 1)
    if (marker === 0xd9) return frame && { ...frame, colour, ends: true }
    // JPEG-LS stuffs a bit, not a byte: what follows 0xff is below 0x80 there.
    if (marker === 0xff) at++
    else if (marker < 0x80 || (marker >= 0xd0 && marker <= 0xd8)) at += 2
    else {
      if (at + 4 > size) break
      const length = view.getUint16(at + 2)
      const isFrame = (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) || marker === 0xf7
      if (isFrame && !frame) {
        if (at + 10 > size) return undefined
        frame = {
          kind: marker === 0xf7 ? 'jpeg-ls' : 'jpeg',
          height: view.getUint16(at + 5),
          width: view.getUint16(at + 7),
          components: view.getUint8(at + 9),
        }
        if (hasRgbIds(view, at + 10)) colour = 'rgb'
      } else colour ??= applicationColour(view, marker, at + 4)
      at += 2 + length
    }
  }
  return frame && { ...frame, colour, ends: false }
}

/** Components that are called R, G and B, three bytes each. */
function hasRgbIds(view: DataView, at: number): boolean {
  if (at + 7 > view.byteLength) return false
  const ids = String.fromCharCode(view.getUint8(at), view.getUint8(at + 3), view.getUint8(at + 6))
  return ids.toUpperCase() === 'RGB'
}

/** JFIF knows YCbCr alone; Adobe's marker says in its last byte whether there was a transform. */
function applicationColour(view: DataView, marker: number, at: number): Codestream['colour'] {
  const word = (length: number) =>
    at + length <= view.byteLength ? Buffer.from(view.buffer, view.byteOffset + at, length).toString('latin1') : ''
  if (marker === 0xe0 && word(5) === 'JFIF\0') return 'ybr'
  if (marker === 0xee && word(5) === 'Adobe' && at + 12 <= view.byteLength)
    return view.getUint8(at + 11) === 0 ? 'rgb' : 'ybr'
  return undefined
}

/** SIZ must follow SOC at once. */
function indexOfSoc(bytes: Uint8Array): number {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).indexOf('ff4fff51', 0, 'hex')
}

function readJpeg2000(view: DataView, start: number): Codestream | undefined {
  const siz = start + 2
  if (siz + 40 > view.byteLength) return undefined
  const width = view.getUint32(siz + 6) - view.getUint32(siz + 14)
  const height = view.getUint32(siz + 10) - view.getUint32(siz + 18)
  const components = view.getUint16(siz + 38)
  // Decoders undo a transform of the components themselves, since the stream says whether there was one.
  return { kind: 'jpeg-2000', width, height, components, colour: undefined, ends: jpeg2000Ends(view, siz) }
}

/** Walks the main header, then from tile-part to tile-part by their lengths. */
function jpeg2000Ends(view: DataView, siz: number): boolean {
  const size = view.byteLength
  let at = siz
  while (at + 4 <= size && view.getUint16(at) !== 0xff90) at += 2 + view.getUint16(at + 2)
  while (at + 12 <= size && view.getUint16(at) === 0xff90) {
    const length = view.getUint32(at + 6)
    // The last tile-part may leave its length open: it reaches to the end marker.
    if (length === 0) return lastIndexOfEnd(view) > at
    at += length
    // Some writers leave the end marker out; with every tile-part whole nothing is missing.
    if (at === size) return true
  }
  return at + 2 <= size && view.getUint16(at) === 0xffd9
}

function lastIndexOfEnd(view: DataView): number {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength).lastIndexOf('ffd9', undefined, 'hex')
}
