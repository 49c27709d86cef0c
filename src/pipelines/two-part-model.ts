/** A model of an encoder and a decoder: one predictor to whoever feeds fields, two networks to whoever feeds prompts. */

import type { ModelRef } from '../contract/model.js'
import type { Predictor } from '../contract/tensor.js'
import {
  createEncode,
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
  scales: LoadedParts['scales'],
): LoadedModel {
  const feeds = ref.config.inference.parts?.feeds ?? {}
  const links = linkParts(encoder, decoder, feeds)
  const networks = { encoder, decoder, links }
  const shown = encoder.fallbackReason ? encoder : decoder.fallbackReason ? decoder : encoder
  const predictor: Predictor = {
    inputs: outerInputs(networks),
    outputs: decoder.outputs,
    device: shown.device,
    fallbackReason: shown.fallbackReason,
    run: () => Promise.reject(new Error('replaced below')),
    close: async () => {
      await Promise.all([encoder.close(), decoder.close()])
    },
  }
  return running(
    { ref, predictor, parts: { ...networks, scales, encode: async (made) => made, decode: decoder.run } },
    undefined,
    UNWATCHED,
  )
}

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
    parts: { ...networks, encode, decode, memory, session },
  }
}

/** The cache's part of one model; another revision has another, so that replaced weights never answer. */
function memoryOf({ name, revision }: Pick<ModelRef, 'name' | 'revision'>, { tensors }: ItemCache): EncoderMemory {
  const own = `${name} ${revision} `
  return { get: (key) => tensors.get(own + key), set: (key, made) => tensors.set(own + key, made) }
}
