/**
 * A config_aiaa.json from an algorithm that MONAI's Auto3DSeg has generated: the transforms of transforms_infer.yaml, and
 * what the algorithm's own infer.py does around them, which is the same for DiNTS, SwinUNETR and SegResNet2D: gaussian
 * windows, scores restored linearly, an activation, an argmax (or a threshold of each class).
 */
import { posix } from 'node:path'
import { AppError } from '../errors.js'
import type { UnzippedFile } from '../util/unzip.js'
import { bundleConfig } from './monai-bundle.js'

const TRANSFORMS = 'configs/transforms_infer.yaml'
const PARAMETERS = 'configs/hyper_parameters.yaml'

/** What stands before `configs/transforms_infer.yaml`: nothing, or the algorithm's own folder. Undefined for other archives. */
export function auto3dsegRoot(files: readonly UnzippedFile[]): string | undefined {
  const found = files.find(({ entryName }) =>
    /^([^/]+\/)?configs\/(transforms_infer|hyper_parameters)\.ya?ml$/.test(entryName),
  )
  return found && posix.dirname(posix.dirname(found.entryName)).replace(/^\.$/, '').replace(/(.)$/, '$1/')
}

type Json = Readonly<Record<string, unknown>>

/** `read` is how a file of the archive becomes data. Throws BAD_MODEL_CONFIG for what cannot be read as such. */
export async function readAuto3dseg(
  files: readonly UnzippedFile[],
  root: string,
  read: (file: UnzippedFile) => Promise<unknown>,
): Promise<unknown> {
  const find = (name: string) =>
    files.find(
      ({ entryName }) => entryName === `${root}${name}` || entryName === `${root}${name}`.replace(/yaml$/, 'yml'),
    )
  const [parameters, transforms] = [find(PARAMETERS), find(TRANSFORMS)]
  if (!transforms)
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `${PARAMETERS} stands without ${TRANSFORMS}: this algorithm makes its transforms in Python, which is not run here`,
      {
        hint: 'DiNTS, SwinUNETR and SegResNet2D write their transforms down; or send the part config with a config_aiaa.json',
      },
    )
  const said = { ...(await recordOf(parameters, read)), ...(await recordOf(transforms, read)) }
  return auto3dsegConfig(said)
}

async function recordOf(file: UnzippedFile | undefined, read: (file: UnzippedFile) => Promise<unknown>): Promise<Json> {
  const value = file && (await read(file))
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {}
}

/** The files' keys together, as MONAI's ConfigParser merges them. */
export function auto3dsegConfig(said: Json): unknown {
  const { training } = said
  const inner = typeof training === 'object' && training !== null ? (training as Json) : undefined
  // DiNTS keeps its parameters under `training`, the others at the top
  const at = (...names: readonly string[]): string | undefined => {
    const inside = names.find((name) => inner?.[name] !== undefined && inner[name] !== null)
    if (inside !== undefined) return `@training::${inside}`
    const outside = names.find((name) => said[name] !== undefined && said[name] !== null)
    return outside && `@${outside}`
  }
  const needed = (...names: readonly string[]): string => {
    const found = at(...names)
    if (found !== undefined) return found
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `hyper_parameters.yaml: ${names.join(' or ')} is missing; it says how the network is run`,
    )
  }
  const softmax = needed('softmax')
  const classes = said.class_names
  const names = Array.isArray(classes) ? classes.map(nameOf) : []
  const inference = {
    ...said,
    preprocessing: '@transforms_infer',
    inferer: {
      _target_: 'SlidingWindowInferer',
      roi_size: needed('patch_size_valid', 'roi_size'),
      sw_batch_size: at('num_sw_batch_size') ?? 1,
      overlap: needed('overlap_ratio_final', 'overlap_ratio'),
      mode: 'gaussian',
    },
    postprocessing: [
      { _target_: 'Invertd', keys: 'pred', orig_keys: 'image', nearest_interp: false },
      { _target_: 'Activationsd', keys: 'pred', softmax, sigmoid: `$not ${softmax}` },
      { _target_: 'AsDiscreted', keys: 'pred', argmax: softmax, threshold: `$None if ${softmax} else 0.5` },
    ],
  }
  const channels = at('input_channels') && (inner?.input_channels ?? said.input_channels)
  const metadata = {
    name: 'Auto3DSeg algorithm',
    task: 'segmentation',
    network_data_format: {
      inputs: { image: typeof channels === 'number' ? { num_channels: channels } : {} },
      outputs: { pred: { channel_def: Object.fromEntries(names.map((name, i) => [String(i + 1), name])) } },
    },
  }
  return bundleConfig(metadata, inference, 'transforms_infer.yaml')
}

function nameOf(given: unknown): string {
  return typeof given === 'object' && given !== null && 'name' in given ? String(given.name) : String(given)
}
