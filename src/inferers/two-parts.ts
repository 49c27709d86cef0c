/**
 * A model of two networks: an encoder that sees the image alone, and a decoder that answers each click from what the
 * encoder made. What the encoder made of an image is known by that image's values, so that it is right for whichever slice
 * and window a request comes to, and a change of either is another image.
 */
import { createHash } from 'node:crypto'
import type { Predict, Tensor, TensorSpec } from '../contract/tensor.js'
import { AppError } from '../errors.js'

export type Tensors = Readonly<Record<string, Tensor>>

/** A network and its tensors: what a Predictor is, as far as it is used here. */
export interface Network {
  readonly inputs: readonly TensorSpec[]
  readonly outputs: readonly TensorSpec[]
  readonly run: Predict
}

export interface TwoParts {
  readonly encoder: Network
  readonly decoder: Network
  /** The decoder's input for each output of the encoder that it reads. */
  readonly links: ReadonlyMap<string, string>
}

/** Keeps what an encoder made. Everything in it may be gone at any time. */
export interface EncoderMemory {
  get(key: string): Tensors | undefined
  set(key: string, made: Tensors): void
}

/** Who is told which of the two works; `work` is the run itself. */
export interface PartsClock {
  encoder<T>(work: () => Promise<T>): Promise<T>
  decoder<T>(work: () => Promise<T>): Promise<T>
  /** What the encoder would have made was kept. */
  kept(): void
}

/** Gives what the encoder makes of its inputs, by the names of the decoder's inputs. */
export type Encode = (feeds: Tensors) => Promise<Tensors>

/**
 * Which output of the encoder is which input of the decoder: as `stated`, else by name, else, among `readers` (those inputs
 * that can be nothing but the encoder's; none for two networks that are both fed with fields), by shape. Throws BAD_MODEL
 * naming what meets nothing, or what does not fit.
 */
export function linkParts(
  encoder: Pick<Network, 'outputs'>,
  decoder: Pick<Network, 'inputs'>,
  stated: Readonly<Record<string, string>>,
  readers: readonly TensorSpec[] = [],
): ReadonlyMap<string, string> {
  const links = new Map<string, string>()
  for (const [output, input] of Object.entries(stated)) {
    const known = encoder.outputs.some(({ name }) => name === output)
    if (!known || !decoder.inputs.some(({ name }) => name === input))
      throw new AppError(
        'BAD_MODEL',
        `inference.parts.feeds pairs '${output}' with '${input}', but ${known ? `the decoder has no input '${input}'` : `the encoder has no output '${output}'`}`,
        { hint: sides(encoder, decoder) },
      )
    links.set(output, input)
  }
  const isFree = ({ name }: TensorSpec) => ![...links.values()].includes(name)
  for (const { name } of encoder.outputs)
    if (!links.has(name) && decoder.inputs.some((input) => input.name === name && isFree(input))) links.set(name, name)
  for (const input of readers.filter(isFree)) {
    const fitting = encoder.outputs.filter((output) => !links.has(output.name) && fits(output, input))
    if (fitting.length === 1) links.set(fitting[0]!.name, input.name)
  }
  const unread = readers.find(isFree)
  if (unread)
    throw new AppError('BAD_MODEL', `the decoder's input ${said(unread)} meets no output of the encoder`, {
      hint: `${sides(encoder, decoder)}; pair them in inference.parts.feeds: {"encoder's output": "decoder's input"}`,
    })
  const lost = encoder.outputs.find(({ name }) => !links.has(name))
  if (links.size === 0 || (lost && readers.length === 0))
    throw new AppError(
      'BAD_MODEL',
      `the encoder's output ${said(lost ?? encoder.outputs[0]!)} meets no input of the decoder`,
      {
        hint: `${sides(encoder, decoder)}; pair them in inference.parts.feeds: {"encoder's output": "decoder's input"}`,
      },
    )
  for (const [output, input] of links) {
    const from = encoder.outputs.find(({ name }) => name === output)!
    const to = decoder.inputs.find(({ name }) => name === input)!
    if (!fits(from, to))
      throw new AppError(
        'BAD_MODEL',
        `the encoder's output ${said(from)} does not fit the decoder's input ${said(to)}`,
        {
          hint: 'export both parts of one model, for one size of image',
        },
      )
  }
  return links
}

function fits(output: TensorSpec, input: TensorSpec): boolean {
  return (
    output.type === input.type &&
    output.dims.length === input.dims.length &&
    output.dims.every(
      (n, axis) => typeof n !== 'number' || typeof input.dims[axis] !== 'number' || n === input.dims[axis],
    )
  )
}

function said({ name, type, dims }: TensorSpec): string {
  return `'${name}' ${type} [${dims.map((n) => n ?? '?').join(',')}]`
}

function sides({ outputs }: Pick<Network, 'outputs'>, { inputs }: Pick<Network, 'inputs'>): string {
  return `the encoder gives ${outputs.map(said).join(', ')}; the decoder takes ${inputs.map(said).join(', ')}`
}

/** What has to be fed to both together: the encoder's inputs, and those of the decoder's that the encoder does not make. */
export function outerInputs({ encoder, decoder, links }: TwoParts): readonly TensorSpec[] {
  const inner = new Set([...links.values(), ...encoder.inputs.map(({ name }) => name)])
  return [...encoder.inputs, ...decoder.inputs.filter(({ name }) => !inner.has(name))]
}

/**
 * The encoder, which does not run for an image that `memory` knows. Items of a batch are known one by one, and an image
 * that comes twice runs once.
 */
export function createEncode(
  { encoder, links }: TwoParts,
  memory: EncoderMemory | undefined,
  clock: PartsClock,
): Encode {
  return async (feeds) => {
    const names = encoder.inputs.map(({ name }) => name)
    const items = memory || !isOne(feeds, names) ? itemsOf(feeds, names) : [feeds]
    const keys = memory ? items.map(hashOf) : items.map((_, i) => `${i}`)
    const made = new Map<string, Tensors>()
    for (const key of keys) {
      const known = memory?.get(key)
      if (known) made.set(key, known)
    }
    const missing = [...new Map(keys.map((key, i) => [key, items[i]!])).entries()].filter(([key]) => !made.has(key))
    if (missing.length === 0) clock.kept()
    for (const group of groupsFor(encoder, missing)) {
      const outputs = await clock.encoder(() => encoder.run(joined(group.map(([, item]) => item))))
      for (const [i, [key]] of group.entries()) {
        const own: Record<string, Tensor> = {}
        for (const [output, input] of links)
          own[input] = partOf(outputs[output]!, i, group.length, memory !== undefined)
        made.set(key, own)
        memory?.set(key, own)
      }
    }
    return joined(keys.map((key) => made.get(key)!))
  }
}

/** Gives what the encoder makes of one image that is known under `key`; what it is fed with is made where it has to run. */
export type EncodeAs = (key: string, feeds: () => Tensors) => Promise<Tensors>

/** The same for an image that has a name of its own, cheaper than its values. */
export function createEncodeAs(
  { encoder, links }: TwoParts,
  memory: EncoderMemory | undefined,
  clock: PartsClock,
): EncodeAs {
  return async (key, feeds) => {
    const known = memory?.get(key)
    if (known) {
      clock.kept()
      return known
    }
    const outputs = await clock.encoder(async () => encoder.run(feeds()))
    const own: Record<string, Tensor> = {}
    for (const [output, input] of links) own[input] = partOf(outputs[output]!, 0, 1, memory !== undefined)
    memory?.set(key, own)
    return own
  }
}

/** Both networks as one, over the inputs of `outerInputs`. */
export function twoPartPredict(parts: TwoParts, encode: Encode, clock: PartsClock): Predict {
  const { encoder, decoder, links } = parts
  const inner = new Set(links.values())
  return async (feeds) => {
    const seen = Object.fromEntries(encoder.inputs.flatMap(({ name }) => (feeds[name] ? [[name, feeds[name]]] : [])))
    const made = await encode(seen)
    const own = decoder.inputs.filter(({ name }) => !inner.has(name) && feeds[name] !== undefined)
    const asked = { ...made, ...Object.fromEntries(own.map(({ name }) => [name, feeds[name]!])) }
    return clock.decoder(() => decoder.run(asked))
  }
}

/** A clock for runs that nobody watches. */
export const UNWATCHED: PartsClock = { encoder: (work) => work(), decoder: (work) => work(), kept() {} }

function isOne(feeds: Tensors, names: readonly string[]): boolean {
  return names.every((name) => (feeds[name]?.dims[0] ?? 1) === 1)
}

/** The members of a batch, each as a batch of one; inputs whose first dimension is not the batch's go to every member. */
function itemsOf(feeds: Tensors, names: readonly string[]): Tensors[] {
  const first = names.map((name) => feeds[name]).find((tensor) => tensor !== undefined)
  const batch = first && first.dims.length > 3 ? first.dims[0]! : 1
  return Array.from({ length: batch }, (_, i) =>
    Object.fromEntries(
      names.flatMap((name) => {
        const tensor = feeds[name]
        if (!tensor) return []
        return [[name, tensor.dims[0] === batch && batch > 1 ? partOf(tensor, i, batch) : tensor]]
      }),
    ),
  )
}

/** By the network's fixed batch: one at a time, or all that are left in one run. */
function groupsFor<T>({ inputs }: Network, items: readonly T[]): (readonly T[])[] {
  const [batch] = inputs[0]?.dims ?? []
  if (items.length === 0) return []
  return typeof batch === 'number' || (inputs[0]?.dims.length ?? 0) < 4 ? items.map((item) => [item]) : [items]
}

/** A member of a batch, in memory of its own where it is to be kept: neither the engine nor the batch's other members hold it. */
function partOf({ dims, data }: Tensor, index: number, count: number, own = false): Tensor {
  const each = data.length / count
  const [from, to] = [index * each, (index + 1) * each]
  const values = (own ? data.slice(from, to) : data.subarray(from, to)) as Tensor['data']
  return { dims: [dims[0]! / count, ...dims.slice(1)], data: values }
}

function joined(items: readonly Tensors[]): Tensors {
  const [first] = items
  if (items.length === 1) return first!
  return Object.fromEntries(
    Object.entries(first!).map(([name, { dims, data }]) => {
      const all = new (data.constructor as new (length: number) => Float32Array)(data.length * items.length)
      for (const [i, item] of items.entries()) all.set(item[name]!.data, i * data.length)
      return [name, { dims: [dims[0]! * items.length, ...dims.slice(1)], data: all as Tensor['data'] }]
    }),
  )
}

/** Names an image by its values. */
function hashOf(item: Tensors): string {
  const hash = createHash('sha1')
  for (const [name, { dims, data }] of Object.entries(item)) {
    hash.update(`${name} ${dims.join()} ${data.constructor.name}\n`)
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
  }
  return hash.digest('base64')
}
