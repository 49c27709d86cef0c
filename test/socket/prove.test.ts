/** A new model is tried in a throw-away runner, which may hang, crash or eat memory without harm. */
import { afterEach, describe, expect, it } from 'vitest'
import type { ModelConfig } from '../../src/contract/model.js'
import type { SchedulerOptions } from '../../src/scheduler/create-scheduler.js'
import { runnerEntry } from '../../src/scheduler/spawn-runner.js'
import { modelRef, plainConfig, realScheduler, type WatchedScheduler } from '../helpers/runner-fixtures.js'

const open: WatchedScheduler[] = []
function start(options: Partial<SchedulerOptions> = {}): WatchedScheduler {
  const watched = realScheduler({ entry: runnerEntry(), ...options })
  open.push(watched)
  return watched
}
afterEach(async () => {
  for (const { scheduler, alive } of open.splice(0)) {
    expect(alive()).toEqual([])
    await scheduler.close(0)
  }
})

describe('a trial', () => {
  it('tells the tensors and the device of a good model', async () => {
    const { scheduler } = start()
    expect(await scheduler.prove(modelRef('threshold'))).toEqual({
      inputs: [{ name: 'image', type: 'float32', dims: ['n', 1, 'x', 'y', 'z'] }],
      outputs: [{ name: 'logits', type: 'float32', dims: ['n', 2, 'x', 'y', 'z'] }],
      device: 'cpu',
    })
  })

  it('tells why a bad one cannot serve, memory included', async () => {
    const { scheduler } = start()
    await expect(scheduler.prove(modelRef('bad'))).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: expect.stringContaining('Protobuf parsing failed'),
    })
    await expect(scheduler.prove(modelRef('huge'))).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: expect.stringContaining('ran out of memory'),
    })
  })

  it('ends a model that never answers', async () => {
    const { scheduler } = start({ proveTimeoutMs: 3000 })
    await expect(scheduler.prove(modelRef('very_slow'))).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: 'the model did not load and answer once within 3 s',
    })
  })

  it('ends a model that takes more memory than it may', async () => {
    const { scheduler } = start({ proveMemoryBytes: 32 * 2 ** 20 })
    await expect(scheduler.prove(modelRef('very_slow'))).rejects.toMatchObject({
      code: 'BAD_MODEL',
      message: expect.stringContaining('needed more than 32 MB of memory'),
    })
  })

  it('of a pipeline tries its parts', async () => {
    const { scheduler } = start()
    const config: ModelConfig = { ...plainConfig, type: 'pipeline' }
    const { weightsPath: _none, ...bare } = modelRef('pipeline', { config })
    await expect(scheduler.prove(bare)).rejects.toMatchObject({ code: 'BAD_MODEL' })
    await expect(scheduler.prove({ ...bare, parts: [modelRef('bad')] })).rejects.toMatchObject({ code: 'BAD_MODEL' })
    const parts = [modelRef('guidance_3d'), modelRef('guidance_2d')]
    await expect(scheduler.prove({ ...bare, parts: parts.slice(1) })).rejects.toMatchObject({
      code: 'BAD_MODEL_CONFIG',
    })
    await expect(scheduler.prove({ ...bare, parts })).resolves.toMatchObject({ device: 'cpu' })
  })

  it('that is aborted ends its runner', async () => {
    const { scheduler } = start()
    const abort = new AbortController()
    const trial = scheduler.prove(modelRef('very_slow'), abort.signal)
    setImmediate(() => abort.abort())
    await expect(trial).rejects.toMatchObject({ code: 'CANCELLED' })
  })

  it('whose runner crashes is a bad model, not a fault of the server', async () => {
    const { scheduler, pids } = start()
    const trial = scheduler.prove(modelRef('very_slow'))
    setImmediate(() => process.kill(pids[0]!, 'SIGSEGV'))
    await expect(trial).rejects.toMatchObject({ code: 'BAD_MODEL', message: expect.stringContaining('SIGSEGV') })
  })
})
