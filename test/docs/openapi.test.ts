import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, test } from 'vitest'
import { describeApi } from '../../src/app.js'

const committed = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url)), 'utf8'),
)

interface Operation {
  readonly operationId?: string
  readonly summary?: string
  readonly tags?: readonly string[]
  readonly responses: Readonly<Record<string, unknown>>
}

test('openapi/openapi.json is what the routes say; npm run openapi renews it', async () => {
  expect(JSON.parse(JSON.stringify(await describeApi()))).toEqual(committed)
})

test('it is a valid OpenAPI 3.1 document', async () => {
  const result = await new Validator().validate(structuredClone(committed))
  expect(result.errors ?? []).toEqual([])
  expect(result.valid).toBe(true)
})

test('every operation has a name of its own, a summary, a tag and a success', () => {
  const operations = Object.values(committed.paths as Record<string, Record<string, Operation>>).flatMap(Object.values)
  const names = operations.map(({ operationId }) => operationId)
  expect(new Set(names).size).toBe(names.length)
  for (const { operationId, summary, tags, responses } of operations) {
    expect(operationId, 'operationId').toBeTruthy()
    expect(summary, operationId).toBeTruthy()
    expect(tags, operationId).toHaveLength(1)
    expect(
      Object.keys(responses).some((status) => status.startsWith('2')),
      operationId,
    ).toBe(true)
  }
})
