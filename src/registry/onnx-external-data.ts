/**
 * Looks into an ONNX file without loading it: is it one, and which other files does it ask for? An ONNX model may name
 * external files for its tensors; a name that leaves the model's folder would make the runner read anything on this
 * machine. The protobuf is walked from disk through a small window, so that a 2 GB model costs no memory, and only the
 * messages that can hold a tensor are entered. Field numbers are those of onnx.proto3 (IR version 3 to 11).
 */
import { type FileHandle, open } from 'node:fs/promises'
import { AppError } from '../errors.js'

type Message = 'model' | 'graph' | 'node' | 'attribute' | 'tensor' | 'sparse' | 'function' | 'training' | 'entry'

/** Which fields of a message are messages that lead to a tensor. */
const CHILDREN: Readonly<Record<Message, Readonly<Record<number, Message>>>> = {
  model: { 7: 'graph', 20: 'training', 25: 'function' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  function: { 7: 'node', 11: 'attribute' },
  training: { 1: 'graph', 2: 'graph' },
  tensor: { 13: 'entry' },
  entry: {},
}
const ENTRY_KEY = 1
const ENTRY_VALUE = 2
const MODEL_GRAPH = 7
const MODEL_OPSETS = 8

const WINDOW_BYTES = 64 * 1024
/** Graphs inside graphs (If, Loop, Scan); real models have two or three. */
const MAX_DEPTH = 64
const MAX_FIELDS = 20_000_000
const MAX_NAME_BYTES = 1024
/** File systems take 255 bytes in one name. */
const MAX_STEP = 80
const MAX_FILES = 10_000
const MAX_TEXTS = 8

export interface OnnxOutline {
  /** External files, relative to the model's folder, in order of appearance. */
  readonly externalFiles: readonly string[]
}

/** Throws BAD_MODEL when `path` is not an ONNX model, is cut short, or asks for files outside its own folder. */
export async function outlineOnnx(path: string): Promise<OnnxOutline> {
  const file = await open(path, 'r')
  try {
    const reader = new WindowReader(file, (await file.stat()).size)
    return await walk(reader)
  } finally {
    await file.close()
  }
}

interface Frame {
  readonly message: Message
  readonly end: number
  /** Of an entry: its keys and values as they came, in any order and number, which protobuf allows. */
  readonly texts: { readonly field: number; readonly text: string }[]
}

function locationsOf({ message, texts }: Frame): readonly string[] {
  if (message !== 'entry' || !texts.some(({ field, text }) => field === ENTRY_KEY && text === 'location')) return []
  return texts.filter(({ field }) => field === ENTRY_VALUE).map(({ text }) => text)
}

async function walk(reader: WindowReader): Promise<OnnxOutline> {
  const stack: Frame[] = [{ message: 'model', end: reader.size, texts: [] }]
  const files = new Set<string>()
  let fields = 0
  let graphs = 0
  let opsets = 0
  while (stack.length > 0) {
    const top = stack.at(-1)!
    if (reader.position >= top.end) {
      if (reader.position > top.end) throw notOnnx('its parts overlap')
      stack.pop()
      for (const location of locationsOf(top)) files.add(checkLocation(location))
      if (files.size > MAX_FILES) throw notOnnx(`it names more than ${MAX_FILES} external files`)
      continue
    }
    if (++fields > MAX_FIELDS) throw notOnnx(`it has more than ${MAX_FIELDS} fields`)
    await reader.need(20)
    const tag = reader.varint()
    const field = Math.floor(tag / 8)
    const wire = tag % 8
    if (field === 0) throw notOnnx('a field has number 0')
    if (wire === 0) reader.varint()
    else if (wire === 1) reader.skip(8)
    else if (wire === 5) reader.skip(4)
    else if (wire === 2) {
      const length = reader.varint()
      const end = reader.position + length
      if (end > top.end) throw notOnnx('it ends too early')
      if (top.message === 'model' && field === MODEL_GRAPH) graphs++
      if (top.message === 'model' && field === MODEL_OPSETS) opsets++
      const child = CHILDREN[top.message][field]
      if (top.message === 'entry' && (field === ENTRY_KEY || field === ENTRY_VALUE)) {
        if (length > MAX_NAME_BYTES) throw notOnnx('an external file has an endless name')
        if (top.texts.length >= MAX_TEXTS) throw notOnnx('an external file has too many names')
        top.texts.push({ field, text: await reader.text(length) })
      } else if (child !== undefined) {
        if (stack.length >= MAX_DEPTH) throw notOnnx(`it is nested deeper than ${MAX_DEPTH} levels`)
        stack.push({ message: child, end, texts: [] })
      } else reader.skip(length)
    } else throw notOnnx('it holds a field of an unknown kind')
    if (reader.position > top.end) throw notOnnx('it ends too early')
  }
  if (graphs === 0 || opsets === 0) throw notOnnx('it has no graph')
  return { externalFiles: [...files] }
}

/** A plain relative name, of forward slashes, that stays in its folder. */
function checkLocation(location: string): string {
  const steps = location.split('/')
  const plain = steps.every(
    (step) => step !== '' && step !== '.' && step !== '..' && !/[\\:\0]/.test(step) && step.length <= MAX_STEP,
  )
  if (!plain)
    throw new AppError('BAD_MODEL', 'the ONNX model asks for external data outside its own folder', {
      hint: 'save the external data beside the model under a plain relative name',
    })
  return location
}

export function notOnnx(why: string): AppError {
  return new AppError('BAD_MODEL', `data is not a readable ONNX model: ${why}`, {
    hint: 'send a .onnx file, or a zip of one with its external data',
  })
}

/** Reads forward through a file; `need` fetches, everything else works on what is there. */
export class WindowReader {
  readonly size: number
  position = 0
  readonly #file: FileHandle
  readonly #window = Buffer.alloc(WINDOW_BYTES)
  #start = 0
  #length = 0

  constructor(file: FileHandle, size: number) {
    this.#file = file
    this.size = size
  }

  /** Makes the next `count` bytes readable, or as many as the file still has. */
  async need(count: number): Promise<void> {
    const end = Math.min(this.position + count, this.size)
    if (this.position >= this.#start && end <= this.#start + this.#length) return
    const { bytesRead } = await this.#file.read(this.#window, 0, WINDOW_BYTES, this.position)
    this.#start = this.position
    this.#length = bytesRead
    if (end > this.#start + bytesRead) throw notOnnx('it ends too early')
  }

  skip(count: number): void {
    this.position += count
  }

  /** A base-128 number; above 2^53 it loses its low bits, which only a length would need, and no file is that long. */
  varint(): number {
    let value = 0
    for (let shift = 0; shift < 10; shift++) {
      if (this.position >= this.size) throw notOnnx('it ends too early')
      const byte = this.#window[this.position++ - this.#start]!
      value += (byte & 0x7f) * 2 ** (7 * shift)
      if (byte < 0x80) return value
    }
    throw notOnnx('a number has no end')
  }

  /** At most as many as the window holds. */
  async bytes(length: number): Promise<Buffer> {
    if (length > WINDOW_BYTES) throw notOnnx('a name or a shape has no end')
    await this.need(length)
    const from = this.position - this.#start
    this.position += length
    return Buffer.from(this.#window.subarray(from, from + length))
  }

  async text(length: number): Promise<string> {
    return (await this.bytes(length)).toString('utf8')
  }
}
