/**
 * What a Python expression of a MONAI config means, where it means plain data. Nothing is run: the names, calls and
 * methods below are all there are, and docs/models.md lists them.
 */
import { type Expression, ExpressionError, parseExpression } from '../util/python-expression.js'

/** Why an expression is not data, in words that go on "is ...". */
export class NotData extends Error {
  override readonly name = 'NotData'
}

/** What `@id` stands for, resolved. */
export type LookUp = (id: string) => unknown
/** Names that the config imports: `np` -> `numpy`. */
export type Aliases = ReadonlyMap<string, string>

/** A list or text that an expression makes is no longer than this; `[0] * 10**9` is not a page of a config. */
const MOST_ITEMS = 16_384

const DTYPES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ['float16', 'float32', 'float64', 'uint8', 'int8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'bool'].map(
      (name) => [name, name],
    ),
  ),
  half: 'float16',
  float: 'float32',
  double: 'float64',
  short: 'int16',
  int: 'int32',
  long: 'int64',
  bool_: 'bool',
}

/** MONAI's enumerations; a member's value is its name in small letters, with dashes where the exception says so. */
const ENUMS: Readonly<Record<string, readonly string[]>> = {
  CommonKeys: ['IMAGE', 'LABEL', 'PRED', 'LOSS', 'METRICS', 'METADATA'],
  GridSampleMode: ['NEAREST', 'BILINEAR', 'BICUBIC'],
  GridSamplePadMode: ['ZEROS', 'BORDER', 'REFLECTION'],
  InterpolateMode: ['NEAREST', 'NEAREST_EXACT', 'LINEAR', 'BILINEAR', 'BICUBIC', 'TRILINEAR', 'AREA'],
  BlendMode: ['CONSTANT', 'GAUSSIAN'],
  PytorchPadMode: ['CONSTANT', 'REFLECT', 'REPLICATE', 'CIRCULAR'],
  NumpyPadMode: ['CONSTANT', 'EDGE', 'MAXIMUM', 'MEAN', 'MEDIAN', 'MINIMUM', 'REFLECT', 'SYMMETRIC', 'WRAP', 'EMPTY'],
  Method: ['SYMMETRIC', 'END'],
}

const CONSTANTS: Readonly<Record<string, number>> = {
  'math.pi': Math.PI,
  'numpy.pi': Math.PI,
  'math.inf': Number.POSITIVE_INFINITY,
  'numpy.inf': Number.POSITIVE_INFINITY,
  'torch.inf': Number.POSITIVE_INFINITY,
}

/** Throws NotData for text that is no expression, or one that only Python could work out. */
export function evaluateText(text: string, lookUp: LookUp, aliases: Aliases): unknown {
  let tree: Expression
  try {
    tree = parseExpression(text)
  } catch (error) {
    if (error instanceof ExpressionError) throw new NotData(`is not an expression that is read here: ${error.message}`)
    throw error
  }
  return evaluate(tree, { lookUp, aliases, locals: new Map() })
}

interface Scope {
  readonly lookUp: LookUp
  readonly aliases: Aliases
  readonly locals: ReadonlyMap<string, unknown>
}

function evaluate(tree: Expression, scope: Scope): unknown {
  const value = (inner: Expression) => evaluate(inner, scope)
  switch (tree.kind) {
    case 'literal':
      return tree.value
    case 'name':
      return scope.locals.has(tree.name) ? scope.locals.get(tree.name) : named(canonical(tree.name, scope.aliases))
    case 'reference':
      return scope.lookUp(tree.id)
    case 'list':
    case 'tuple':
      return tree.items.map(value)
    case 'dict':
      return Object.fromEntries(tree.entries.map(([key, inner]) => [String(value(key)), value(inner)]))
    case 'each':
      return listOf(value(tree.source))
        .map((item) => ({ ...scope, locals: new Map(scope.locals).set(tree.name, item) }))
        .filter((inner) => tree.test === undefined || truth(evaluate(tree.test, inner)))
        .map((inner) => evaluate(tree.item, inner))
    case 'unary':
      return unary(tree.operator, value(tree.operand))
    case 'binary':
      if (tree.operator === 'and' || tree.operator === 'or') {
        const left = value(tree.left)
        return truth(left) === (tree.operator === 'and') ? value(tree.right) : left
      }
      return binary(tree.operator, value(tree.left), value(tree.right))
    case 'choice':
      return truth(value(tree.test)) ? value(tree.yes) : value(tree.no)
    case 'subscript':
      return subscript(value(tree.target), tree.index, value)
    case 'call':
      return call(tree, scope)
    case 'attribute':
      throw new NotData(`needs '.${tree.name}', which is not read here`)
    case 'lambda':
      throw new NotData('is a function, and only Lambdad takes one')
    case 'slice':
      throw new NotData('is a slice of nothing')
  }
}

/** `np.float32` with `import numpy as np` is numpy.float32; np and torch are known without an import too. */
function canonical(name: string, aliases: Aliases): string {
  const [first = '', ...rest] = name.split('.')
  const whole = aliases.get(first) ?? (first === 'np' ? 'numpy' : first)
  return [whole, ...rest].join('.')
}

function named(name: string): unknown {
  if (Object.hasOwn(CONSTANTS, name)) return CONSTANTS[name]
  const [module, ...parts] = name.split('.')
  const last = parts.at(-1) ?? ''
  if ((module === 'torch' || module === 'numpy') && parts.length === 1 && Object.hasOwn(DTYPES, last)) {
    // numpy's plain names are Python's own types, which are wider
    if (module === 'numpy' && last === 'float') return 'float64'
    return DTYPES[last]
  }
  const members = module === 'monai' && parts[0] === 'utils' ? ENUMS[parts.at(-2) ?? ''] : undefined
  if (members?.includes(last)) return last === 'NEAREST_EXACT' ? 'nearest-exact' : last.toLowerCase()
  throw new NotData(`names '${name.slice(0, 80)}', which only Python knows`)
}

function truth(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  if (isRecord(value)) return Object.keys(value).length > 0
  return Boolean(value)
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function unary(operator: string, operand: unknown): unknown {
  if (operator === 'not') return !truth(operand)
  const number = numberOf(operand)
  if (operator === '~') throw new NotData("has '~', which only a Lambdad may have")
  return operator === '-' ? -number : number
}

function numberOf(value: unknown): number {
  if (typeof value === 'number') return value
  if (typeof value === 'boolean') return Number(value)
  throw new NotData(`computes with ${kindOf(value)}`)
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'None'
  if (Array.isArray(value)) return 'a list'
  return typeof value === 'string' ? 'a text' : typeof value === 'object' ? 'an object' : `a ${typeof value}`
}

function listOf(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value
  if (typeof value === 'string') return [...value]
  if (isRecord(value) && value.constructor === Object) return Object.keys(value)
  throw new NotData(`goes through ${kindOf(value)} as if it were a list`)
}

function bounded<T extends string | readonly unknown[]>(value: T): T {
  if (value.length <= MOST_ITEMS) return value
  throw new NotData(`makes more than ${MOST_ITEMS} items`)
}

function binary(operator: string, left: unknown, right: unknown): unknown {
  switch (operator) {
    case '==':
      return JSON.stringify(left) === JSON.stringify(right)
    case '!=':
      return JSON.stringify(left) !== JSON.stringify(right)
    case 'in':
      return typeof right === 'string' ? right.includes(String(left)) : listOf(right).includes(left)
    case '+':
      if (typeof left === 'string' && typeof right === 'string') return bounded(left + right)
      if (Array.isArray(left) && Array.isArray(right)) return bounded([...left, ...right])
      break
    case '*': {
      const [many, times] = typeof left === 'number' ? [right, left] : [left, right]
      if (typeof many === 'string' || Array.isArray(many)) return repeated(many, numberOf(times))
    }
  }
  return arithmetic(operator, numberOf(left), numberOf(right))
}

function repeated(many: string | readonly unknown[], times: number): string | readonly unknown[] {
  if (many.length * times > MOST_ITEMS) throw new NotData(`makes more than ${MOST_ITEMS} items`)
  if (typeof many === 'string') return many.repeat(Math.max(0, times))
  return Array.from({ length: Math.max(0, times) }, () => many).flat()
}

function arithmetic(operator: string, a: number, b: number): unknown {
  if (b === 0 && ['/', '//', '%'].includes(operator)) throw new NotData('divides by zero')
  switch (operator) {
    case '+':
      return a + b
    case '-':
      return a - b
    case '*':
      return a * b
    case '/':
      return a / b
    case '//':
      return Math.floor(a / b)
    case '%':
      return a - b * Math.floor(a / b)
    case '**':
      return a ** b
    case '<':
      return a < b
    case '<=':
      return a <= b
    case '>':
      return a > b
    case '>=':
      return a >= b
  }
  throw new NotData(`has the operator '${operator}', which is not read here`)
}

function subscript(target: unknown, index: Expression, value: (tree: Expression) => unknown): unknown {
  if (isRecord(target)) {
    const key = String(value(index))
    if (Object.hasOwn(target, key)) return target[key]
    throw new NotData(`asks for the key '${key.slice(0, 80)}', which is not there`)
  }
  if (typeof target !== 'string' && !Array.isArray(target)) throw new NotData(`takes a part of ${kindOf(target)}`)
  if (index.kind === 'slice') {
    const part = (tree: Expression | undefined) => (tree === undefined ? undefined : numberOf(value(tree)))
    const step = part(index.step) ?? 1
    if (step === 1) return target.slice(part(index.start), part(index.end))
    if (step === -1 && !index.start && !index.end && Array.isArray(target)) return target.toReversed()
    throw new NotData('is a slice in steps, which is not read here')
  }
  const found = target.at(numberOf(value(index)))
  if (found === undefined) throw new NotData('asks for an item beyond the end of a list')
  return found
}

/** Plain functions; all arguments are given by place. */
const CALLS: Readonly<Record<string, (...args: unknown[]) => unknown>> = {
  len: (list) => listOf(list).length,
  list: (list = []) => [...listOf(list)],
  tuple: (list = []) => [...listOf(list)],
  int: (value) => Math.trunc(typeof value === 'string' ? parsed(value) : numberOf(value)),
  float: (value) => (typeof value === 'string' ? parsed(value) : numberOf(value)),
  bool: (value) => truth(value),
  str: (value) => (value === null ? 'None' : value === true ? 'True' : value === false ? 'False' : String(value)),
  abs: (value) => Math.abs(numberOf(value)),
  round: (value) => halfEven(numberOf(value)),
  min: (...values) => Math.min(...numbersOf(values)),
  max: (...values) => Math.max(...numbersOf(values)),
  sum: (list) => numbersOf([list]).reduce((total, value) => total + value, 0),
  sorted: (list) => listOf(list).toSorted((a, b) => (a! < b! ? -1 : a! > b! ? 1 : 0)),
  reversed: (list) => listOf(list).toReversed(),
  range: (...bounds) => range(bounds.map(numberOf)),
  'copy.copy': (value) => value,
  'copy.deepcopy': (value) => value,
  'numpy.array': (list) => [...listOf(list)],
  'torch.tensor': (list) => [...listOf(list)],
}

const METHODS: Readonly<Record<string, (target: unknown, ...args: unknown[]) => unknown>> = {
  keys: (target) => Object.keys(recordOf(target)),
  values: (target) => Object.values(recordOf(target)),
  get: (target, key, other = null) => {
    const record = recordOf(target)
    return Object.hasOwn(record, String(key)) ? record[String(key)] : other
  },
  tolist: (target) => [...listOf(target)],
  lower: (target) => textOf(target).toLowerCase(),
  upper: (target) => textOf(target).toUpperCase(),
}

/** The functions and methods that an expression may call, for the documentation's test. */
export const EXPRESSION_CALLS: readonly string[] = [...Object.keys(CALLS), ...Object.keys(METHODS).map((m) => `.${m}`)]

function call({ callee, args, named: byName }: Extract<Expression, { kind: 'call' }>, scope: Scope): unknown {
  const said = callee.kind === 'name' ? canonical(callee.name, scope.aliases) : undefined
  if (Object.keys(byName).length > 0)
    throw new NotData(`calls ${said === undefined ? 'a method' : `'${said.slice(0, 80)}'`} with named arguments`)
  const values = () => args.map((arg) => evaluate(arg, scope))
  if (said !== undefined && Object.hasOwn(CALLS, said)) return CALLS[said]!(...values())
  if (callee.kind === 'attribute' && Object.hasOwn(METHODS, callee.name))
    return METHODS[callee.name]!(evaluate(callee.target, scope), ...values())
  throw new NotData(
    `calls '${said?.slice(0, 80) ?? (callee.kind === 'attribute' ? callee.name : '?')}', which only Python can`,
  )
}

function parsed(text: string): number {
  const value = text.trim() === '' ? Number.NaN : Number(text)
  if (/^[+-]?inf(inity)?$/i.test(text.trim())) return text.trim().startsWith('-') ? -Infinity : Infinity
  if (Number.isNaN(value)) throw new NotData(`reads a number from '${text.slice(0, 40)}'`)
  return value
}

function numbersOf(values: readonly unknown[]): number[] {
  const list = values.length === 1 && Array.isArray(values[0]) ? (values[0] as unknown[]) : values
  return list.map(numberOf)
}

function halfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor
}

function range(bounds: readonly number[]): number[] {
  const [start, end, step] = bounds.length === 1 ? [0, bounds[0]!, 1] : [bounds[0]!, bounds[1]!, bounds[2] ?? 1]
  const length = step === 0 || bounds.length === 0 ? Number.NaN : Math.max(0, Math.ceil((end - start) / step))
  if (!(length <= MOST_ITEMS)) throw new NotData(`makes more than ${MOST_ITEMS} items`)
  return Array.from({ length }, (_, i) => start + i * step)
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> {
  if (isRecord(value)) return value
  throw new NotData(`asks ${kindOf(value)} for its keys`)
}

function textOf(value: unknown): string {
  if (typeof value === 'string') return value
  throw new NotData(`takes ${kindOf(value)} for a text`)
}
