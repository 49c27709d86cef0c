/**
 * The expressions of Python that configs of MONAI are written in, as data: text to a tree, and nothing is ever run.
 *
 * Read are literals, lists, tuples, dictionaries, names with dots, MONAI's references (`@name::part`), arithmetic,
 * comparisons, `and`, `or`, `not`, `in`, `a if b else c`, `[a for b in c]`, calls, subscripts, slices and `lambda`. What a tree means,
 * and which names and calls exist, is said by those who walk it: registry/bundle-expression.ts and transforms/lambda.ts.
 */

export type Expression =
  | { readonly kind: 'literal'; readonly value: string | number | boolean | null }
  /** `monai.utils.CommonKeys.IMAGE`, as one text. */
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'reference'; readonly id: string }
  | { readonly kind: 'list' | 'tuple'; readonly items: readonly Expression[] }
  /** `[item for name in source if test]` */
  | {
      readonly kind: 'each'
      readonly item: Expression
      readonly name: string
      readonly source: Expression
      readonly test?: Expression
    }
  | { readonly kind: 'dict'; readonly entries: readonly (readonly [Expression, Expression])[] }
  | { readonly kind: 'unary'; readonly operator: string; readonly operand: Expression }
  | { readonly kind: 'binary'; readonly operator: string; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'choice'; readonly test: Expression; readonly yes: Expression; readonly no: Expression }
  | {
      readonly kind: 'call'
      readonly callee: Expression
      readonly args: readonly Expression[]
      readonly named: Readonly<Record<string, Expression>>
    }
  | { readonly kind: 'attribute'; readonly target: Expression; readonly name: string }
  | { readonly kind: 'subscript'; readonly target: Expression; readonly index: Expression }
  | { readonly kind: 'slice'; readonly start?: Expression; readonly end?: Expression; readonly step?: Expression }
  | { readonly kind: 'lambda'; readonly parameters: readonly string[]; readonly body: Expression }

/** Thrown for text that is no expression of this language; `at` counts characters from 0. */
export class ExpressionError extends Error {
  override readonly name = 'ExpressionError'
  constructor(
    message: string,
    readonly at: number,
  ) {
    super(message)
  }
}

/** A line of a config; longer or deeper ones are somebody's attempt to keep the reader busy. */
const MOST_CHARACTERS = 4096
const MOST_DEPTH = 64

/** Throws ExpressionError, saying what was found where. */
export function parseExpression(text: string): Expression {
  if (text.length > MOST_CHARACTERS)
    throw new ExpressionError(`an expression of more than ${MOST_CHARACTERS} characters`, MOST_CHARACTERS)
  const parser = new Parser(tokensOf(text))
  const tree = parser.whole()
  parser.end()
  return tree
}

interface Token {
  readonly kind: 'number' | 'string' | 'name' | 'reference' | 'operator' | 'end'
  readonly text: string
  readonly at: number
}

const TOKEN =
  /(?<number>(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?<string>'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")|(?<reference>@\w*(?:(?:::|#)\w*)*)|(?<name>[A-Za-z_]\w*)|(?<operator>\*\*|\/\/|<=|>=|==|!=|[-+*/%<>()[\]{},.:=&|~])|(?<blank>\s+)/y

function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  TOKEN.lastIndex = 0
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at
    const groups = TOKEN.exec(text)?.groups
    if (!groups) throw new ExpressionError(`unexpected '${text[at]}'`, at)
    const [kind, found] = Object.entries(groups).find(([, value]) => value !== undefined)!
    if (kind !== 'blank') tokens.push({ kind: kind as Token['kind'], text: found, at })
  }
  tokens.push({ kind: 'end', text: 'the end', at: text.length })
  return tokens
}

/** Binding powers, loosest first; Python's, without `not`, the choice and `lambda`, which are read apart. */
const POWER: Readonly<Record<string, number>> = {
  or: 1,
  and: 2,
  in: 4,
  '<': 4,
  '<=': 4,
  '>': 4,
  '>=': 4,
  '==': 4,
  '!=': 4,
  '|': 5,
  '&': 6,
  '+': 7,
  '-': 7,
  '*': 8,
  '/': 8,
  '//': 8,
  '%': 8,
  '**': 10,
}
const NOT_POWER = 3
const SIGN_POWER = 9
const WORDS: Readonly<Record<string, boolean | null>> = { True: true, False: false, None: null }
const KEYWORDS = new Set(['if', 'else', 'for', 'lambda', 'and', 'or', 'not', 'in', 'is', 'await', 'yield', 'async'])

class Parser {
  #next = 0
  #depth = 0

  constructor(private readonly tokens: readonly Token[]) {}

  /** An expression with its choice, or a lambda. */
  whole(): Expression {
    if (++this.#depth > MOST_DEPTH) throw new ExpressionError('nested too deeply', this.#peek.at)
    try {
      if (this.#takes('lambda')) return this.#lambda()
      const yes = this.#operators(0)
      if (!this.#takes('if')) return yes
      const test = this.#operators(0)
      this.#demand('else')
      return { kind: 'choice', test, yes, no: this.whole() }
    } finally {
      this.#depth--
    }
  }

  end(): void {
    if (this.#peek.kind !== 'end') this.#unexpected()
  }

  get #peek(): Token {
    return this.tokens[this.#next]!
  }

  #unexpected(): never {
    throw new ExpressionError(`unexpected '${this.#peek.text.slice(0, 40)}'`, this.#peek.at)
  }

  #takes(text: string): boolean {
    const { kind, text: found } = this.#peek
    if (found !== text || (kind !== 'operator' && kind !== 'name')) return false
    this.#next++
    return true
  }

  #demand(text: string): void {
    if (!this.#takes(text)) throw new ExpressionError(`expected '${text}', found '${this.#peek.text}'`, this.#peek.at)
  }

  #lambda(): Expression {
    const parameters: string[] = []
    while (!this.#takes(':')) {
      if (this.#peek.kind !== 'name') this.#unexpected()
      parameters.push(this.tokens[this.#next++]!.text)
      this.#takes(',')
    }
    return { kind: 'lambda', parameters, body: this.whole() }
  }

  #operators(least: number): Expression {
    let left = this.#prefixed()
    for (;;) {
      const operator = this.#peek.text
      const power = this.#peek.kind === 'string' ? undefined : POWER[operator]
      if (power === undefined || power < least) return left
      this.#next++
      // powers group to the right, and their exponent may carry a sign
      const right = operator === '**' ? this.#operators(power) : this.#operators(power + 1)
      left = { kind: 'binary', operator, left, right }
    }
  }

  #prefixed(): Expression {
    if (++this.#depth > MOST_DEPTH) throw new ExpressionError('nested too deeply', this.#peek.at)
    try {
      if (this.#takes('not')) return { kind: 'unary', operator: 'not', operand: this.#operators(NOT_POWER) }
      for (const operator of ['-', '+', '~'])
        if (this.#takes(operator)) return { kind: 'unary', operator, operand: this.#operators(SIGN_POWER) }
      return this.#suffixed(this.#atom())
    } finally {
      this.#depth--
    }
  }

  #suffixed(start: Expression): Expression {
    let target = start
    for (;;) {
      if (this.#takes('.')) {
        if (this.#peek.kind !== 'name') this.#unexpected()
        const { text } = this.tokens[this.#next++]!
        target =
          target.kind === 'name'
            ? { kind: 'name', name: `${target.name}.${text}` }
            : { kind: 'attribute', target, name: text }
      } else if (this.#takes('(')) target = this.#call(target)
      else if (this.#takes('[')) {
        target = { kind: 'subscript', target, index: this.#index() }
        this.#demand(']')
      } else return target
    }
  }

  #call(callee: Expression): Expression {
    const args: Expression[] = []
    const named = Object.create(null) as Record<string, Expression>
    while (!this.#takes(')')) {
      const name = this.#peek
      if (name.kind === 'name' && this.tokens[this.#next + 1]?.text === '=') {
        this.#next += 2
        named[name.text] = this.whole()
      } else args.push(this.whole())
      if (this.#peek.text !== ')') this.#demand(',')
    }
    return { kind: 'call', callee, args, named }
  }

  #index(): Expression {
    const part = (): Expression | undefined =>
      this.#peek.text === ':' || this.#peek.text === ']' ? undefined : this.whole()
    const start = part()
    if (!this.#takes(':')) return start ?? this.#unexpected()
    const end = part()
    const step = this.#takes(':') ? part() : undefined
    return { kind: 'slice', ...(start && { start }), ...(end && { end }), ...(step && { step }) }
  }

  #atom(): Expression {
    const { kind, text } = this.#peek
    this.#next++
    switch (kind) {
      case 'number':
        return { kind: 'literal', value: Number(text.replaceAll('_', '')) }
      case 'string':
        return { kind: 'literal', value: unescaped(text) }
      case 'reference':
        return { kind: 'reference', id: text.slice(1) }
      case 'name':
        if (Object.hasOwn(WORDS, text)) return { kind: 'literal', value: WORDS[text]! }
        if (KEYWORDS.has(text)) break
        return { kind: 'name', name: text }
      case 'operator':
        if (text === '(') return this.#group()
        if (text === '[') return this.#list()
        if (text === '{') return this.#dict()
    }
    this.#next--
    return this.#unexpected()
  }

  #group(): Expression {
    const items: Expression[] = []
    while (!this.#takes(')')) {
      items.push(this.whole())
      if (items.length === 1 && this.#takes(')')) return items[0]!
      if (this.#peek.text !== ')') this.#demand(',')
    }
    return { kind: 'tuple', items }
  }

  #list(): Expression {
    const items: Expression[] = []
    while (!this.#takes(']')) {
      items.push(this.whole())
      if (items.length === 1 && this.#takes('for')) return this.#each(items[0]!)
      if (this.#peek.text !== ']') this.#demand(',')
    }
    return { kind: 'list', items }
  }

  #each(item: Expression): Expression {
    if (this.#peek.kind !== 'name') this.#unexpected()
    const name = this.tokens[this.#next++]!.text
    this.#demand('in')
    const source = this.#operators(0)
    const test = this.#takes('if') ? this.#operators(0) : undefined
    this.#demand(']')
    return { kind: 'each', item, name, source, ...(test && { test }) }
  }

  #dict(): Expression {
    const entries: [Expression, Expression][] = []
    while (!this.#takes('}')) {
      const key = this.whole()
      this.#demand(':')
      entries.push([key, this.whole()])
      if (this.#peek.text !== '}') this.#demand(',')
    }
    return { kind: 'dict', entries }
  }
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '\\': '\\', "'": "'", '"': '"' }

function unescaped(quoted: string): string {
  return quoted.slice(1, -1).replace(/\\(.)/g, (whole, letter: string) => ESCAPES[letter] ?? whole)
}
