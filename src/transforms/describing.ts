/**
 * Arguments that say by what means a step is done, how exactly, or under which name it keeps something to itself, and so
 * change nothing in the answer. The list is closed and stands in docs/models.md: whatever is not on it is honoured or
 * refused. Their types are checked like any other.
 */
import { z } from 'zod'

const describes = <T extends z.ZodType>(type: T) => type.nullable().optional()
const oneOrMore = <T extends z.ZodType>(type: T) => z.union([type, z.array(type.nullable())])

const flag = describes(oneOrMore(z.boolean()))
const word = describes(oneOrMore(z.string()))
const FLOATS = ['float16', 'float32', 'float64', 'half', 'float', 'double']
const WHOLE = ['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'uint64', 'int64', 'bool', 'int', 'long']
const dtypeOf = (known: readonly string[]) =>
  z.string().refine((name) => known.includes(name.replace(/^(torch|np|numpy)\./, '')), {
    error: `must be one of ${known.join(', ')}`,
  })

export const DESCRIBING = {
  // how MONAI puts steps together, and under which names it keeps what it knows of an image
  lazy: flag,
  meta_keys: word,
  meta_key_postfix: word,
  orig_meta_keys: word,
  start_coord_key: word,
  end_coord_key: word,
  original_shape_key: word,
  cropped_shape_key: word,
  // how files are read: the server reads them itself
  reader: word,
  overwriting: flag,
  image_only: flag,
  simple_keys: flag,
  prune_meta_pattern: word,
  prune_meta_sep: word,
  expanduser: flag,
  // where arrays lie and of which library they are
  device: describes(oneOrMore(z.union([z.string(), z.int()]))),
  non_blocking: flag,
  data_type: describes(oneOrMore(z.enum(['tensor', 'numpy']))),
  wrap_sequence: flag,
  track_meta: flag,
  to_tensor: flag,
  update_meta: flag,
  // how exactly it is computed; results are of float32 or better
  compute_dtype: describes(oneOrMore(dtypeOf(FLOATS))),
  ensure_same_shape: flag,
  // of label maps, which lie in the smallest type that holds them, one number a voxel
  label_dtype: describes(oneOrMore(dtypeOf([...FLOATS, ...WHOLE]))),
  to_onehot: describes(oneOrMore(z.union([z.int().min(1).max(65_536), z.boolean()]))),
  n_classes: describes(oneOrMore(z.int().min(1).max(65_536))),
  num_classes: describes(oneOrMore(z.int().min(1).max(65_536))),
  keepdim: flag,
  has_channel: flag,
  channel_first: flag,
  // where channels and metadata of a file are looked for, and what else a transform hands out
  strict_check: flag,
  return_clipping_values: flag,
  safe: flag,
  // what Invertd inverts is here always what was done to the image
  transform: describes(z.unknown()),
  invert_orient: flag,
  // of the reply, whose form the protocol says
  result: word,
  // of training, where points came from a label
  label_field: word,
  label_key: word,
  label_names: describes(z.union([z.array(z.string()), z.record(z.string(), z.unknown())])),
  properties: describes(oneOrMore(z.enum(['affine', 'original_affine', 'as_canonical']))),
  input_channels: describes(z.int().min(1)),
} as const
