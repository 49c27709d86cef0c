/** Whether an encoder scales its pixels itself, as its file tells. */
import { readModelFile } from '../onnx/model-file.js'
import { scaleOfPixels } from '../onnx/pixel-scale.js'

/** The largest encoders (2.4 GB) keep their weights apart and are not looked into: then the config or the layout says it. */
const MAX_MODEL_BYTES = 2 ** 30

export async function pixelScale(path: string, input: string | undefined): Promise<'bytes' | 'unit' | undefined> {
  const model = input === undefined ? undefined : await readModelFile(path, MAX_MODEL_BYTES)
  return model && scaleOfPixels(model, input!)
}
