/**
 * Where a network spends its time in the engine that serves: by type of node, and its slowest nodes.
 *
 *     npx tsx bench/profile.ts NETWORK.onnx 1,3,96,96,96 [--threads 2] [--runs 5] [--nodes 12]
 *
 * One shape for every input whose dimensions are free; values between 0 and 1. `threads` shows what a node gains from them: run it with
 * 1 and with 2.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { InferenceSession, Tensor } from 'onnxruntime-node'

interface ProfileEvent {
  readonly cat: string
  readonly name: string
  readonly dur: number
  readonly args?: {
    readonly op_name?: string
    readonly output_type_shape?: readonly Record<string, readonly number[]>[]
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: 'string', default: '2' },
    runs: { type: 'string', default: '5' },
    nodes: { type: 'string', default: '12' },
  },
})
const [path, shape] = positionals
if (!path || !shape) throw new Error('name a network and a shape, such as 1,1,96,96,96')
const dims = shape.split(',').map(Number)
const runs = Number(values.runs)

const folder = mkdtempSync(join(tmpdir(), 'profile-'))
try {
  const session = await InferenceSession.create(path, {
    enableProfiling: true,
    profileFilePrefix: join(folder, 'run'),
    enableMemPattern: false,
    intraOpNumThreads: Number(values.threads),
    logSeverityLevel: 4,
  })
  const feeds = Object.fromEntries(
    session.inputMetadata.map((input) => {
      if (!input.isTensor) throw new Error(`${input.name} is not a tensor`)
      const own = input.shape.map((dim, axis) => (typeof dim === 'number' ? dim : dims[axis]!))
      const data = Float32Array.from({ length: own.reduce((a, b) => a * b, 1) }, (_, i) =>
        Math.abs(Math.sin(i * 12.9898)),
      )
      return [input.name, new Tensor('float32', data, own)]
    }),
  )
  await session.run(feeds)
  const times: number[] = []
  for (let run = 0; run < runs; run++) {
    const start = performance.now()
    await session.run(feeds)
    times.push(performance.now() - start)
  }
  session.endProfiling()
  await session.release()
  const events = JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]!), 'utf8')) as ProfileEvent[]
  const nodes = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'))
  // the first run allocates
  const counted = nodes.slice(nodes.length / (runs + 1))
  const ms = (us: number) => (us / 1000 / runs).toFixed(1).padStart(9)
  console.log(`${path} ${shape}: median ${times.toSorted((a, b) => a - b)[runs >> 1]!.toFixed(1)} ms`)
  for (const [op, us, count] of sums(counted, ({ args }) => args?.op_name ?? '?'))
    if (us > 0.01 * counted.reduce((sum, { dur }) => sum + dur, 0)) console.log(`${ms(us)} ms  ${op} (${count / runs})`)
  console.log('slowest nodes:')
  const named = sums(counted, ({ name, args }) => `${args?.op_name} ${name} ${JSON.stringify(args?.output_type_shape)}`)
  for (const [node, us] of named.slice(0, Number(values.nodes))) console.log(`${ms(us)} ms  ${node}`)
} finally {
  rmSync(folder, { recursive: true, force: true })
}

function sums(events: readonly ProfileEvent[], key: (event: ProfileEvent) => string): [string, number, number][] {
  const found = new Map<string, [number, number]>()
  for (const event of events) {
    const [us, count] = found.get(key(event)) ?? [0, 0]
    found.set(key(event), [us + event.dur, count + 1])
  }
  return [...found]
    .map(([name, [us, count]]): [string, number, number] => [name, us, count])
    .toSorted((a, b) => b[1] - a[1])
}
