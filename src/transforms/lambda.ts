/**
 * MONAI's Lambdad, for functions that can be read as data: choosing channels, comparing, computing, `torch.where`. The
 * function is worked out block by block over the voxels, so that its steps never hold a whole image each.
 */
import { z } from 'zod'
import { AppError } from '../errors.js'
import { type Expression, ExpressionError, parseExpression } from '../util/python-expression.js'
import { labelArray } from '../volume/label-array.js'
import { makeVolume, type Volume, voxelCount } from '../volume/volume.js'
import { describing, fieldArgs, integer } from './args.js'
import { eachImage } from './fields.js'
import type { Content, ImageField, TransformDefinition } from './types.js'

const args = fieldArgs({
  /** `lambda x: ...`, of one parameter: the field's array, channels first. */
  func: z.string(),
  overwrite: z.literal(true, 'only true is supported').default(true),
  inv_func: z.null('only null is supported').optional(),
  ...describing('track_meta'),
  /** The label map stands for so many one-hot channels, as AsDiscreted's argument of that name says before it. */
  to_onehot: integer.pipe(z.int().min(1).max(65_536)).nullable().optional(),
})

export const lambda: TransformDefinition<typeof args> = {
  names: ['Lambdad', 'LambdaD', 'LambdaDict', 'Lambda'],
  args,
  // what it takes only its function knows
  traits: () => ({ channels: 'other', renumbers: true }),
  create: (a) => {
    const compiled = compile(a.func)
    return eachImage(a, (field) => {
      const classes = a.to_onehot
      if (!classes || field.volume.channels > 1) return applied(field, compiled)
      const chosen = compiled.chooses?.(classes)
      return chosen ? chosenClasses(field, chosen) : applied(oneHot(field, classes), compiled)
    })
  },
}

/** A stretch of voxels of some channels; numbers that are the same everywhere have one channel of one value. */
interface Tensor {
  readonly channels: readonly Float64Array[]
  readonly content: Content
}
type Work = (x: Tensor) => Tensor

interface Compiled {
  readonly work: Work
  /** For a function that only chooses channels: which of `count` it chooses, in order. */
  readonly chooses: ((count: number) => number[]) | undefined
}

function compile(text: string): Compiled {
  let tree: Expression
  try {
    tree = parseExpression(text.trim().replace(/^\$/, ''))
  } catch (error) {
    if (!(error instanceof ExpressionError)) throw error
    throw new AppError('BAD_MODEL_CONFIG', `'func' is not read here: ${error.message}`, { cause: error })
  }
  if (tree.kind !== 'lambda' || tree.parameters.length !== 1)
    throw new AppError('BAD_MODEL_CONFIG', "'func' must be a lambda of one parameter, 'lambda x: ...'")
  const parameter = tree.parameters[0]!
  const { body } = tree
  const chooses =
    body.kind === 'subscript' && body.target.kind === 'name' && body.target.name === parameter
      ? chooser(body.index)
      : undefined
  return { work: build(body, parameter), chooses }
}

function unread(what: string): AppError {
  return new AppError('BAD_MODEL_CONFIG', `'func' has ${what}, which is not read here`, {
    hint: 'read are x[i], x[i:j], x[[i, j]], arithmetic, comparisons, &, |, ~, and torch.where, nan_to_num, clamp, round, abs, exp, sigmoid, softmax and argmax over the channels',
  })
}

function build(tree: Expression, parameter: string): Work {
  const inner = (part: Expression) => build(part, parameter)
  switch (tree.kind) {
    case 'literal': {
      if (typeof tree.value !== 'number' && typeof tree.value !== 'boolean') throw unread(`'${tree.value}'`)
      const value = Number(tree.value)
      const same: Tensor = {
        channels: [Float64Array.of(value)],
        content: Number.isInteger(value) ? 'labels' : 'scores',
      }
      return () => same
    }
    case 'name':
      if (tree.name === parameter) return (x) => x
      throw unread(`'${tree.name}'`)
    case 'unary': {
      const operand = inner(tree.operand)
      if (tree.operator === '-') return (x) => mapped(operand(x), (v) => -v)
      if (tree.operator === '~' || tree.operator === 'not')
        return (x) => mapped(operand(x), (v) => (v === 0 ? 1 : 0), 'labels')
      return operand
    }
    case 'binary':
      return binary(tree.operator, inner(tree.left), inner(tree.right))
    case 'subscript': {
      const target = inner(tree.target)
      const choose = chooser(tree.index)
      return (x) => {
        const from = target(x)
        return { ...from, channels: choose(from.channels.length).map((c) => from.channels[c]!) }
      }
    }
    case 'call':
      return call(tree, inner)
    default:
      throw unread(`a ${tree.kind}`)
  }
}

/** `1`, `-1`, `[2]`, `[0, 2]`, `1:`, `:3`, and the same followed by whole axes. Given the number of channels, which. */
function chooser(index: Expression): (count: number) => number[] {
  const whole = (part: Expression) => part.kind === 'slice' && !part.start && !part.end && !part.step
  if (index.kind === 'tuple') {
    const [first, ...rest] = index.items
    if (!first || !rest.every(whole)) throw unread('an index along the image')
    return chooser(first)
  }
  if (index.kind === 'slice') {
    if (index.step && wholeNumber(index.step) !== 1) throw unread('a slice in steps')
    const start = index.start && wholeNumber(index.start)
    const end = index.end && wholeNumber(index.end)
    return (count) => Array.from({ length: count }, (_, i) => i).slice(start, end)
  }
  const wanted = index.kind === 'list' ? index.items.map(wholeNumber) : [wholeNumber(index)]
  return (count) =>
    wanted.map((n) => {
      const at = n < 0 ? n + count : n
      if (at >= 0 && at < count) return at
      throw new AppError('BAD_MODEL_CONFIG', `'func' asks for channel ${n}, but there are ${count}`)
    })
}

function wholeNumber(tree: Expression): number {
  const sign = tree.kind === 'unary' && tree.operator === '-' ? -1 : 1
  const inner = tree.kind === 'unary' ? tree.operand : tree
  if (inner.kind === 'literal' && typeof inner.value === 'number' && Number.isInteger(inner.value))
    return sign * inner.value
  throw unread('an index that is not a number')
}

const OPERATORS: Readonly<Record<string, (a: number, b: number) => number>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '//': (a, b) => Math.floor(a / b),
  '%': (a, b) => a - b * Math.floor(a / b),
  '**': (a, b) => a ** b,
  '<': (a, b) => (a < b ? 1 : 0),
  '<=': (a, b) => (a <= b ? 1 : 0),
  '>': (a, b) => (a > b ? 1 : 0),
  '>=': (a, b) => (a >= b ? 1 : 0),
  '==': (a, b) => (a === b ? 1 : 0),
  '!=': (a, b) => (a !== b ? 1 : 0),
  '&': (a, b) => (a !== 0 && b !== 0 ? 1 : 0),
  '|': (a, b) => (a !== 0 || b !== 0 ? 1 : 0),
}
const TRUTHS = new Set(['<', '<=', '>', '>=', '==', '!=', '&', '|'])

function binary(operator: string, left: Work, right: Work): Work {
  const each = OPERATORS[operator]
  if (!each) throw unread(`'${operator}'`)
  return (x) => {
    const [a, b] = [left(x), right(x)]
    const labels = TRUTHS.has(operator) || (bothLabels(a, b) && operator !== '/')
    return combined([a, b], ([p, q]) => each(p!, q!), labels ? 'labels' : 'scores')
  }
}

function bothLabels(a: Tensor, b: Tensor): boolean {
  return a.content === 'labels' && b.content === 'labels'
}

type Call = Extract<Expression, { kind: 'call' }>

/** `torch.f(x, ...)`, `np.f(x, ...)` and `x.f(...)`. */
function call(tree: Call, inner: (part: Expression) => Work): Work {
  const { callee, named } = tree
  let name: string
  let args: Expression[] = [...tree.args]
  if (callee.kind === 'attribute') {
    name = callee.name
    args = [callee.target, ...args]
  } else if (callee.kind === 'name') {
    const words = callee.name.split('.')
    name = words.at(-1)!
    // `x.float()`, or a function of a module
    if (!/^(torch|np|numpy|torch\.nn\.functional|F)$/.test(words.slice(0, -1).join('.')))
      args = [{ kind: 'name', name: words.slice(0, -1).join('.') }, ...args]
  } else throw unread('a call of what is no name')
  const number = (tree: Expression | undefined, otherwise: number) => (tree === undefined ? otherwise : constant(tree))
  const only = (...known: string[]) => {
    const odd = Object.keys(named).find((key) => !known.includes(key))
    if (odd !== undefined) throw unread(`the argument '${odd}' of ${name}`)
  }
  const first = args[0] && inner(args[0])
  if (!first) throw unread(`${name} without an argument`)
  switch (name) {
    case 'where': {
      only()
      const [, yes, no] = args.map(inner)
      if (!yes || !no) throw unread('where without its three arguments')
      return (x) => {
        const [c, a, b] = [first(x), yes(x), no(x)]
        const content = bothLabels(a, b) ? 'labels' : 'scores'
        return combined([c, a, b], ([test, p, q]) => (test !== 0 ? p! : q!), content)
      }
    }
    case 'nan_to_num': {
      only('nan', 'posinf', 'neginf')
      const [nan, high, low] = [
        number(named.nan ?? args[1], 0),
        number(named.posinf ?? args[2], 3.4028234663852886e38),
        number(named.neginf ?? args[3], -3.4028234663852886e38),
      ]
      return (x) => mapped(first(x), (v) => (Number.isNaN(v) ? nan : v === Infinity ? high : v === -Infinity ? low : v))
    }
    case 'clamp':
    case 'clip': {
      only('min', 'max')
      const [low, high] = [number(named.min ?? args[1], -Infinity), number(named.max ?? args[2], Infinity)]
      return (x) => mapped(first(x), (v) => Math.min(Math.max(v, low), high))
    }
    case 'abs':
      only()
      return (x) => mapped(first(x), Math.abs)
    case 'exp':
      only()
      return (x) => mapped(first(x), Math.exp, 'scores')
    case 'round':
      only()
      return (x) => mapped(first(x), halfEven, 'labels')
    case 'sigmoid':
      only()
      return (x) => mapped(first(x), (v) => 1 / (1 + Math.exp(-v)), 'scores')
    case 'softmax':
    case 'argmax': {
      only('dim', 'keepdim', 'axis')
      if (number(named.dim ?? named.axis ?? args[1], Number.NaN) !== 0)
        throw unread(`${name} along another axis than 0`)
      return name === 'argmax' ? (x) => argmax(first(x)) : (x) => softmax(first(x))
    }
    case 'float':
    case 'double':
    case 'half':
    case 'type':
    case 'to':
    case 'astype':
    case 'numpy':
    case 'cpu':
    case 'clone':
      // whole numbers stay whole numbers in whatever array
      return first
    case 'int':
    case 'long':
    case 'byte':
      return (x) => mapped(first(x), Math.trunc, 'labels')
    case 'bool':
      return (x) => mapped(first(x), (v) => (v === 0 ? 0 : 1), 'labels')
  }
  throw unread(`${name}()`)
}

function constant(tree: Expression): number {
  if (tree.kind === 'unary' && tree.operator === '-') return -constant(tree.operand)
  if (tree.kind === 'literal' && typeof tree.value === 'number') return tree.value
  throw unread('an argument that is not a number')
}

function halfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor
}

function mapped(tensor: Tensor, each: (value: number) => number, content = tensor.content): Tensor {
  return { channels: tensor.channels.map((values) => values.map(each)), content }
}

/** Channel by channel; one channel goes with any number of them, and one value with any number of voxels. */
function combined(parts: readonly Tensor[], each: (values: number[]) => number, content: Content): Tensor {
  const count = Math.max(...parts.map(({ channels }) => channels.length))
  if (parts.some(({ channels }) => channels.length !== 1 && channels.length !== count))
    throw new AppError('BAD_MODEL_CONFIG', "'func' combines arrays of different numbers of channels")
  const length = Math.max(...parts.map(({ channels }) => channels[0]!.length))
  const values = new Array<number>(parts.length)
  const channels = Array.from({ length: count }, (_, c) => {
    const sources = parts.map((part) => part.channels[part.channels.length === 1 ? 0 : c]!)
    const out = new Float64Array(length)
    for (let i = 0; i < length; i++) {
      for (let p = 0; p < sources.length; p++) values[p] = sources[p]!.length === 1 ? sources[p]![0]! : sources[p]![i]!
      out[i] = each(values)
    }
    return out
  })
  return { channels, content }
}

function argmax({ channels }: Tensor): Tensor {
  const best = Float64Array.from(channels[0]!)
  const out = new Float64Array(best.length)
  for (const [c, values] of channels.entries())
    for (let i = 0; i < best.length; i++)
      if (values[i]! > best[i]!) {
        best[i] = values[i]!
        out[i] = c
      }
  return { channels: [out], content: 'labels' }
}

function softmax({ channels }: Tensor): Tensor {
  const most = Float64Array.from(channels[0]!)
  for (const values of channels) for (let i = 0; i < most.length; i++) most[i] = Math.max(most[i]!, values[i]!)
  const powers = channels.map((values) => values.map((v, i) => Math.exp(v - most[i]!)))
  const sums = new Float64Array(most.length)
  for (const values of powers) for (let i = 0; i < sums.length; i++) sums[i]! += values[i]!
  return { channels: powers.map((values) => values.map((v, i) => v / sums[i]!)), content: 'scores' }
}

/** Voxels worked out at a time. */
const BLOCK = 32 * 1024

function applied(field: ImageField, { work }: Compiled): ImageField {
  const { volume } = field
  const voxels = voxelCount(volume)
  let out: Float32Array | undefined
  let content: Content = field.content
  let channels = 0
  for (let start = 0; start < voxels; start += BLOCK) {
    const end = Math.min(start + BLOCK, voxels)
    const x = Array.from({ length: volume.channels }, (_, c) =>
      Float64Array.from(volume.data.subarray(c * voxels + start, c * voxels + end)),
    )
    const made = work({ channels: x, content: field.content })
    channels = made.channels.length
    // what is computed from intensities is intensities
    content = made.content === 'labels' || field.content !== 'intensity' ? made.content : 'intensity'
    out ??= new Float32Array(channels * voxels)
    for (const [c, values] of made.channels.entries()) {
      if (values.length === 1) out.fill(values[0]!, c * voxels + start, c * voxels + end)
      else out.set(values, c * voxels + start)
    }
  }
  const data = content === 'labels' ? labelsOf(out!) : out!
  const axes = channels > 1 && !field.axes.includes('C') ? `C${field.axes}` : field.axes
  const made = makeVolume(volume.size, volume.affine, data, { channels, nifti: volume.nifti })
  return { ...field, volume: made, axes, content, scratch: true }
}

function labelsOf(values: Float32Array) {
  let min = 0
  let max = 0
  for (let i = 0; i < values.length; i++) {
    if (values[i]! < min) min = values[i]!
    if (values[i]! > max) max = values[i]!
  }
  const labels = labelArray(values.length, min, max)
  labels.set(values)
  return labels
}

function oneHot(field: ImageField, classes: number): ImageField {
  const { volume } = field
  const voxels = voxelCount(volume)
  const data = new Uint8Array(voxels * classes)
  for (let i = 0; i < voxels; i++) {
    const label = volume.data[i]!
    if (label < classes) data[label * voxels + i] = 1
  }
  const axes = field.axes.includes('C') ? field.axes : `C${field.axes}`
  return { ...field, axes, volume: makeVolume(volume.size, volume.affine, data, { channels: classes }) }
}

/**
 * One-hot channels chosen out of a label map that stays a label map: the n-th of them is label n, counted from 0 where the
 * background is the first of them and from 1 where it is not there.
 */
function chosenClasses(field: ImageField, chosen: readonly number[]): ImageField {
  const offset = chosen[0] === 0 ? 0 : 1
  const { volume }: { volume: Volume } = field
  const data = labelArray(volume.data.length, 0, chosen.length)
  const table = new Map(chosen.map((label, i) => [label, i + offset]))
  for (let i = 0; i < data.length; i++) data[i] = table.get(volume.data[i]!) ?? 0
  return { ...field, volume: { ...volume, data }, content: 'labels', scratch: true }
}
