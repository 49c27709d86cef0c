/** Weights of other frameworks, told by their first bytes or by their archive's entries, and how to make ONNX of them. */
import { open } from 'node:fs/promises'
import { AppError } from '../errors.js'

interface Foreign {
  readonly what: string
  readonly hint: string
}

const FROM_PYTORCH = 'export it in Python with torch.onnx.export(model, example, "model.onnx") and send that file'
const FROM_TENSORFLOW =
  'export it with python -m tf2onnx.convert (--saved-model, --graphdef or --keras) and send the .onnx file'
const FROM_TENSORRT = 'a TensorRT plan fits one GPU only; export the model it was built from to ONNX and send that'

const PYTORCH: Foreign = { what: 'a TorchScript or PyTorch file', hint: FROM_PYTORCH }
const TENSORFLOW: Foreign = { what: 'a TensorFlow graph', hint: FROM_TENSORFLOW }
const KERAS: Foreign = { what: 'a Keras file', hint: FROM_TENSORFLOW }

const HEADS: readonly (Foreign & { readonly bytes: readonly number[]; readonly at: number })[] = [
  // HDF5, as Keras .h5 files are.
  { ...KERAS, bytes: [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a], at: 0 },
  { what: 'a TensorRT plan', hint: FROM_TENSORRT, bytes: [0x70, 0x74, 0x72, 0x74], at: 0 },
  {
    what: 'a TensorFlow Lite model',
    hint: 'export it with python -m tf2onnx.convert --tflite',
    bytes: [0x54, 0x46, 0x4c, 0x33],
    at: 4,
  },
  // A pickle of protocol 2 to 5: torch.save before its zip format.
  { ...PYTORCH, bytes: [0x80, 0x02], at: 0 },
  { ...PYTORCH, bytes: [0x80, 0x03], at: 0 },
  { ...PYTORCH, bytes: [0x80, 0x04], at: 0 },
  { ...PYTORCH, bytes: [0x80, 0x05], at: 0 },
]

/** A first look at uploaded weights. Throws BAD_MODEL for another framework's, with how to export them to ONNX. */
export async function refuseForeignFile(path: string): Promise<void> {
  const head = await readHead(path)
  if (head.length === 0)
    throw new AppError('BAD_MODEL', 'data is empty', { hint: 'send the ONNX file as the part data' })
  const found = HEADS.find(({ bytes, at }) => bytes.every((byte, i) => head[at + i] === byte)) ?? graphDef(head)
  if (found) refuse(found)
}

/** The same for an archive, by the names of its entries. */
export function refuseForeignArchive(entryNames: readonly string[]): void {
  const has = (pattern: RegExp) => entryNames.some((name) => pattern.test(name))
  if (has(/\.onnx$/i)) return
  if (has(/(^|\/)constants\.pkl$/) || has(/(^|\/)data\.pkl$/) || has(/\.(pt|ts|pth)$/i)) refuse(PYTORCH)
  if (has(/(^|\/)model\.weights\.h5$/) || has(/\.h5$/i)) refuse(KERAS)
  if (has(/(^|\/)saved_model\.pb$/) || has(/\.pb$/i) || has(/\.ckpt(\.|$)/)) refuse(TENSORFLOW)
  if (has(/\.(plan|engine|trt)$/i)) refuse({ what: 'a TensorRT plan', hint: FROM_TENSORRT })
}

/**
 * Archives of other servers: their own descriptions do not say how an image is prepared. Throws BAD_MODEL with the way.
 * One with a config_aiaa.json in it is an MMAR, whatever else it holds.
 */
export function refuseForeignLayout(entryNames: readonly string[]): void {
  const has = (pattern: RegExp) => entryNames.some((name) => pattern.test(name))
  if (has(/(^|\/)config_aiaa\.json$/)) return
  if (has(/(^|\/)config\.pbtxt$/))
    throw new AppError(
      'BAD_MODEL',
      'data is a Triton model repository, which says nothing of how an image is prepared',
      {
        hint:
          'send <model>/<version>/model.onnx with a config (PUT with ?draft=true, or `aidant import`, drafts one), or leave it on ' +
          'Triton and send a config with inference.engine kserve',
      },
    )
  if (has(/(^|\/)main\.py$/) && has(/(^|\/)lib\/(configs|infers|trainers)\//))
    throw new AppError('BAD_MODEL', 'data is a MONAI Label app, whose tasks are Python that is not run here', {
      hint:
        'export the network of a task with torch.onnx.export, draft its config (`aidant import model.onnx`) and copy the ' +
        'transforms of lib/infers into it; a task that runs a MONAI bundle is that bundle: send the bundle',
    })
}

export async function readHead(path: string): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64), 0, 64, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** A frozen TensorFlow graph starts with a node (field 1, a message) whose first field is its name; ONNX with a number. */
function graphDef(head: Buffer): Foreign | undefined {
  if (head[0] !== 0x0a) return undefined
  let at = 1
  while (at < head.length && head[at]! >= 0x80) at++
  return head[at + 1] === 0x0a ? TENSORFLOW : undefined
}

function refuse({ what, hint }: Foreign): never {
  throw new AppError('BAD_MODEL', `data is ${what}; this server runs ONNX models`, { hint })
}
