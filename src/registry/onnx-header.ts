/**
 * What an ONNX file says of itself: its tensors and its metadata. The file is walked through a small window and its weights
 * are stepped over, so that a model of any size costs nothing.
 */
import { open } from 'node:fs/promises'
import type { TensorSpec } from '../contract/tensor.js'
import type { readValueInfo } from '../onnx/header-messages.js'
import { notOnnx, WindowReader } from './onnx-external-data.js'

export interface OnnxHeader {
  /** What has to be fed: inputs that are no weights. */
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  /** `metadata_props`. */
  readonly metadata: Readonly<Record<string, string>>
}

/** Fields of ModelProto, GraphProto and TensorProto. */
const MODEL_GRAPH = 7
const MODEL_METADATA = 14
const GRAPH_INITIALIZER = 5
const GRAPH_INPUT = 11
const GRAPH_OUTPUT = 12
const TENSOR_NAME = 8

const MOST_ENTRIES = 10_000

/** Throws BAD_MODEL when `path` is no ONNX model. */
export async function readOnnxHeader(path: string): Promise<OnnxHeader> {
  const file = await open(path, 'r')
  try {
    const reader = new WindowReader(file, (await file.stat()).size)
    const found = {
      inputs: [] as Buffer[],
      outputs: [] as Buffer[],
      metadata: [] as Buffer[],
      weights: new Set<string>(),
    }
    await fields(reader, reader.size, async (field, end) => {
      if (field === MODEL_METADATA) keep(found.metadata, await reader.bytes(end - reader.position))
      else if (field === MODEL_GRAPH)
        await fields(reader, end, async (inner, innerEnd) => {
          if (inner === GRAPH_INPUT) keep(found.inputs, await reader.bytes(innerEnd - reader.position))
          else if (inner === GRAPH_OUTPUT) keep(found.outputs, await reader.bytes(innerEnd - reader.position))
          else if (inner === GRAPH_INITIALIZER)
            await fields(reader, innerEnd, async (name, nameEnd) => {
              if (name === TENSOR_NAME) found.weights.add(await reader.text(nameEnd - reader.position))
            })
        })
    })
    // Loaded when there is a network to read: a server starts faster without.
    const messages = await import('../onnx/header-messages.js')
    const toSpec = (bytes: Buffer) => specOf(messages.readValueInfo(bytes))
    return {
      inputs: found.inputs.map(toSpec).filter(({ name }) => !found.weights.has(name)),
      outputs: found.outputs.map(toSpec),
      metadata: Object.fromEntries(found.metadata.map(messages.readStringEntry).map(({ key, value }) => [key, value])),
    }
  } finally {
    await file.close()
  }
}

/** Calls `each` for every field of a message that has a length, the reader at its first byte; steps over what it leaves. */
async function fields(
  reader: WindowReader,
  end: number,
  each: (field: number, end: number) => Promise<void>,
): Promise<void> {
  while (reader.position < end) {
    await reader.need(20)
    const tag = reader.varint()
    const wire = tag % 8
    if (wire === 0) reader.varint()
    else if (wire === 1) reader.skip(8)
    else if (wire === 5) reader.skip(4)
    else if (wire === 2) {
      const length = reader.varint()
      const next = reader.position + length
      if (next > end) throw notOnnx('it ends too early')
      await each(Math.floor(tag / 8), next)
      reader.skip(next - reader.position)
    } else throw notOnnx('it holds a field of an unknown kind')
  }
}

function keep(list: Buffer[], bytes: Buffer): void {
  if (list.length >= MOST_ENTRIES) throw notOnnx(`it has more than ${MOST_ENTRIES} tensors or notes`)
  list.push(bytes)
}

function specOf({ name, type, dims }: ReturnType<typeof readValueInfo>): TensorSpec {
  if (!type) throw notOnnx(`its tensor '${name.slice(0, 80)}' is of a kind that is not run here`)
  return { name, type, dims }
}
