/** Imports, those of types among them, point down the layers of ARCHITECTURE.md: from a file's own folder and lower ones. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, it, test } from 'vitest'

const SRC = fileURLToPath(new URL('../src', import.meta.url))

/** Folders and root files of src/, lowest first. Those of one row do not know each other. */
const LAYERS: readonly (readonly string[])[] = [
  ['errors.ts', 'util'],
  ['contract'],
  ['volume', 'geometry', 'onnx'],
  ['formats', 'transforms'],
  ['inferers'],
  ['pipelines'],
  ['predictors'],
  ['runner'],
  ['workspace'],
  ['scheduler', 'registry', 'sessions', 'datastore', 'fetchers', 'observability', 'config', 'access'],
  ['preload.ts', 'services.ts'],
  ['http', 'web'],
  ['app.ts', 'server.ts', 'cli'],
]
/** Rows whose members may use each other: what a row shares is one subject in several files or folders. */
const MIXED = new Set([0, 2, 10, 11, 12])
/** The only doors through which a vendor comes in. */
const DOORS: Readonly<Record<string, RegExp>> = {
  'onnxruntime-node': /^predictors\/onnxruntime\.ts$/,
  sharp: /^formats\//,
  'nifti-reader-js': /^formats\//,
  'dcmjs-codecs': /^formats\//,
  'dcmjs-dimse': /^fetchers\//,
  yauzl: /^(util|fetchers|formats)\//,
  fastify: /^(http\/|app\.ts$|server\.ts$)/,
  pino: /^(observability\/|app\.ts$|services\.ts$)/,
  'prom-client': /^observability\//,
  commander: /^cli\//,
  '@bufbuild/protobuf': /^onnx\//,
}

interface Import {
  readonly from: string
  readonly target: string
}

const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => path.endsWith('.ts'))

/** What a file imports or re-exports, statically or when it is first needed. */
function importsOf(file: string): Import[] {
  const text = readFileSync(join(SRC, file), 'utf8')
  const statement = /^(?:import|export)\s+(?:[\w*{}\s,$]+?\s+from\s+)?['"]([^'"]+)['"]/gm
  const dynamic = /\bimport\(\s*['"]([^'"]+)['"]\s*\)/g
  return [...text.matchAll(statement), ...text.matchAll(dynamic)].map(([, target]) => ({ from: file, target: target! }))
}

const rowOf = (path: string): number => {
  const top = path.includes('/') ? path.slice(0, path.indexOf('/')) : path
  return LAYERS.findIndex((row) => row.includes(top))
}

test('every file belongs to a layer', () => {
  expect(files.filter((file) => rowOf(file) < 0)).toEqual([])
})

test('no import points up, or across to a neighbour', () => {
  const wrong = files.flatMap(importsOf).filter(({ from, target }) => {
    if (!target.startsWith('.')) return false
    const path = normalize(join(dirname(from), target)).replaceAll('\\', '/')
    const [here, there] = [rowOf(from), rowOf(path)]
    const sameFolder = from.split('/')[0] === path.split('/')[0]
    return there > here || (there === here && !sameFolder && !MIXED.has(here))
  })
  expect(wrong.map(({ from, target }) => `${from} imports ${target}`)).toEqual([])
})

test('vendors come in by their own doors', () => {
  const wrong = files.flatMap(importsOf).filter(({ from, target }) => {
    const [vendor] = /^(?:@[^/]+\/)?[^/]+/.exec(target)!
    const door = DOORS[vendor]
    return door !== undefined && !door.test(from)
  })
  expect(wrong.map(({ from, target }) => `${from} imports ${target}`)).toEqual([])
})

it('walks real imports', () => {
  const seen = files.flatMap(importsOf).map(({ from, target }) => `${relative('.', from)} ${target}`)
  expect(seen).toContain('app.ts fastify')
  expect(seen).toContain('pipelines/run.ts ../contract/tensor.js')
})
