/** The elements of a weight as bytes, however the file spells them, and tensors made of bytes. */
import { create } from '@bufbuild/protobuf'
import { float32FromHalf } from '../util/float16.js'
import { type Tensor, TensorSchema } from './onnx_pb.js'

/** Element types of onnx.TensorProto that weights of a convolution have, with their bytes an element. */
export const ELEMENT_BYTES: Readonly<Record<number, number>> = { 1: 4, 10: 2, 11: 8 }
export const FLOAT = 1
const FLOAT16 = 10
const INT64 = 7
const DOUBLE = 11
const EXTERNAL = 1

export function dimsOf({ dims }: Tensor): number[] {
  return dims.map(Number)
}

/**
 * The little-endian bytes of a weight of type float, float16 or double, first dimension slowest. Undefined when they are
 * of another type, lie outside the file, or are not as many as its dimensions say.
 */
export function elementBytes(tensor: Tensor): Uint8Array | undefined {
  const each = ELEMENT_BYTES[tensor.dataType]
  if (each === undefined || tensor.dataLocation === EXTERNAL) return undefined
  const count = dimsOf(tensor).reduce((product, n) => product * n, 1)
  const bytes = spelt(tensor)
  return bytes.byteLength === count * each ? bytes : undefined
}

function spelt(tensor: Tensor): Uint8Array {
  if (tensor.rawData.length > 0) return tensor.rawData
  const { dataType } = tensor
  const values =
    dataType === FLOAT
      ? Float32Array.from(tensor.floatData)
      : dataType === DOUBLE
        ? Float64Array.from(tensor.doubleData)
        : Uint16Array.from(tensor.int32Data)
  return new Uint8Array(values.buffer)
}

/** A weight of the same element type as `like`. */
export function weightLike(like: Tensor, name: string, dims: readonly number[], bytes: Uint8Array): Tensor {
  return create(TensorSchema, { name, dims: dims.map(BigInt), dataType: like.dataType, rawData: bytes })
}

/** A list of whole numbers, as Reshape and Slice want them. */
export function int64Tensor(
  name: string,
  values: readonly number[],
  dims: readonly number[] = [values.length],
): Tensor {
  return create(TensorSchema, { name, dims: dims.map(BigInt), dataType: INT64, int64Data: values.map(BigInt) })
}

/** The values of a float16 weight as float. */
export function floatTensor(half: Tensor): Tensor | undefined {
  const bytes = half.dataType === FLOAT16 ? elementBytes(half) : undefined
  if (!bytes) return undefined
  const values = float32FromHalf(new Uint16Array(new Uint8Array(bytes).buffer))
  return create(TensorSchema, { ...half, dataType: FLOAT, int32Data: [], rawData: new Uint8Array(values.buffer) })
}
