/** Whatever JSON comes, a config is read or refused in words; nothing else ever happens. */
import { readdirSync, readFileSync } from 'node:fs'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AppError } from '../../src/errors.js'
import { parseModelConfig } from '../../src/pipelines/parse-model-config.js'

const folder = new URL('../fixtures/configs/', import.meta.url)
const samples = readdirSync(folder).map((file) => readFileSync(new URL(file, folder), 'utf8'))

function readOrRefuse(value: unknown): void {
  try {
    // Through text, as it comes over the wire: JSON has no -0.
    const config = parseModelConfig(JSON.parse(JSON.stringify(value)), 'model')
    // What was accepted crosses to a runner as JSON and must come out the same.
    expect(JSON.parse(JSON.stringify(config))).toEqual(config)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    expect(error.code).toBe('BAD_MODEL_CONFIG')
    expect(error.message).toMatch(/^config/)
  }
}

test('any JSON', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (json) => readOrRefuse(json)),
    { numRuns: 500 },
  )
})

test('a real config with any value anywhere replaced', () => {
  const places = (json: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] =>
    typeof json === 'object' && json !== null
      ? Object.entries(json).flatMap(([key, value]) => [[...path, key], ...places(value, [...path, key])])
      : []
  fc.assert(
    fc.property(fc.constantFrom(...samples), fc.nat(), fc.jsonValue({ maxDepth: 2 }), (text, at, value) => {
      const json = JSON.parse(text)
      const all = places(json)
      const path = all[at % all.length]!
      const parent = path.slice(0, -1).reduce((inner, key) => inner[key], json)
      parent[path.at(-1)!] = value
      readOrRefuse(json)
    }),
    { numRuns: 1000 },
  )
})
