/** A model of an encoder and a decoder: one predictor to whoever feeds fields, two networks to whoever feeds prompts. */

import type { ModelRef } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import { AppError } from '../errors.js'
import { promptInputs, readLayout, takesPrompts } from '../inferers/prompted/layout.js'
import {
  createEncode,
  createEncodeAs,
  type EncoderMemory,
  linkParts,
  outerInputs,
  type PartsClock,
  twoPartPredict,
  UNWATCHED,
} from '../inferers/two-parts.js'
import type { ItemCache, LoadedModel, LoadedParts } from './run.js'

/** Puts two loaded networks together. Throws BAD_MODEL naming the tensors that do not meet. */
export function assembleParts(
  ref: LoadedModel['ref'],
  encoder: Predictor,
  decoder: Predictor,
  scales: 'bytes' | 'unit' | undefined,
): LoadedModel {
  const { parts, nodeMapping } = ref.config.inference
  if (!parts) throw new AppError('INTERNAL', 'a model of two parts whose config has none')
  const isPrompted = takesPrompts(decoder, parts, nodeMapping)
  if (isPrompted && ref.config.type !== 'deepgrow')
    throw new AppError(
      'BAD_MODEL_CONFIG',
      `config.type has to be deepgrow for a decoder that takes prompts, not ${ref.config.type}`,
      {
        hint: "or feed it with fields: inference.parts.layout 'plain' and node_mapping",
      },
    )
  const prompted = isPrompted ? readLayout(encoder, decoder, parts, scales) : undefined
  const links = linkParts(encoder, decoder, parts.feeds, isPrompted ? promptInputs(decoder).readers : [])
  const networks = { encoder, decoder, links, prompted }
  const shown = encoder.fallbackReason ? encoder : decoder.fallbackReason ? decoder : encoder
  const predictor: Predictor = {
    inputs: outerInputs(networks),
    outputs: decoder.outputs,
    device: shown.device,
    fallbackReason: shown.fallbackReason,
    run: unused,
    close: async () => {
      await Promise.all([encoder.close(), decoder.close()])
    },
  }
  const loaded: LoadedParts = { ...networks, encode: unused, encodeAs: unused, decode: unused }
  return running({ ref, predictor, parts: loaded }, undefined, UNWATCHED)
}

/** Stands where `running` puts the real one. */
const unused = () => Promise.reject(new AppError('INTERNAL', 'a model of two parts that was not put together'))

/** The model for one job: `clock` hears which part runs, and a session's image is encoded once as long as `cache` keeps that. */
export function partsOfJob(
  model: LoadedModel,
  session: string | undefined,
  cache: ItemCache,
  clock: PartsClock,
): LoadedModel {
  return model.parts
    ? running(model, session === undefined ? undefined : memoryOf(model.ref, cache), clock, session)
    : model
}

function running(
  { ref, predictor, parts }: LoadedModel & { readonly parts?: LoadedParts | undefined },
  memory: EncoderMemory | undefined,
  clock: PartsClock,
  session?: string,
): LoadedModel {
  const networks = parts!
  const encode = createEncode(networks, memory, clock)
  const decode = (feeds: Parameters<typeof networks.decoder.run>[0]) => clock.decoder(() => networks.decoder.run(feeds))
  return {
    ref,
    predictor: { ...predictor, run: twoPartPredict(networks, encode, clock) },
    parts: { ...networks, encode, encodeAs: createEncodeAs(networks, memory, clock), decode, memory, session },
  }
}

/** The cache's part of one model; another revision has another, so that replaced weights never answer. */
function memoryOf({ name, revision }: Pick<ModelRef, 'name' | 'revision'>, { tensors }: ItemCache): EncoderMemory {
  const own = `${name} ${revision} `
  return { get: (key) => tensors.get(own + key), set: (key, made) => tensors.set(own + key, made) }
}
