/** Single messages of an ONNX file: what a network says of a tensor, and a pair of its metadata. */
import { fromBinary } from '@bufbuild/protobuf'
import type { TensorSpec, TensorType } from '../contract/tensor.js'
import { StringEntrySchema, ValueInfoSchema } from './onnx_pb.js'

/** ONNX's numbers for the types that a network here may have. */
const TYPES: Readonly<Record<number, TensorType>> = {
  1: 'float32',
  2: 'uint8',
  3: 'int8',
  4: 'uint16',
  5: 'int16',
  6: 'int32',
  7: 'int64',
  9: 'bool',
  10: 'float16',
  11: 'float64',
}

/** `type` is undefined for what is no tensor of a known type. */
export function readValueInfo(bytes: Uint8Array): Omit<TensorSpec, 'type'> & { readonly type: TensorType | undefined } {
  const { name, type } = fromBinary(ValueInfoSchema, bytes)
  const tensor = type?.tensorType
  const dims = (tensor?.shape?.dim ?? []).map(({ dimValue, dimParam }) =>
    dimValue > 0n ? Number(dimValue) : dimParam === '' ? null : dimParam,
  )
  return { name, type: TYPES[tensor?.elemType ?? 0], dims }
}

export function readStringEntry(bytes: Uint8Array): { readonly key: string; readonly value: string } {
  const { key, value } = fromBinary(StringEntrySchema, bytes)
  return { key, value }
}
