import { describe, expect, it } from 'vitest'
import type { Stage } from '../../../src/contract/job.js'
import { RunnerJobControl } from '../../../src/runner/job-control.js'
import { settle } from '../../helpers/fake-runner.js'

function build() {
  let now = 0
  const said: string[] = []
  const control = new RunnerJobControl({
    report: (stage: Stage, done, total, part) => said.push(`${stage} ${done}/${total}${part ? ` ${part}` : ''}`),
    want: () => said.push('want'),
    release: () => said.push('release'),
    now: () => now,
  })
  const pass = (ms: number) => {
    now += ms
  }
  return { control, said, pass }
}

describe('RunnerJobControl', () => {
  it('times each stage from its first checkpoint to the next stage’s, and waiting apart', async () => {
    const { control, pass } = build()
    await control.checkpoint('read', 0, 1)
    pass(10)
    await control.checkpoint('pre', 0, 2)
    pass(5)
    await control.checkpoint('pre', 1, 2)
    pass(5)
    await control.checkpoint('infer', 0, 1)
    const work = control.withDevice(async () => pass(100))
    pass(40)
    control.granted()
    await work
    await control.checkpoint('write', 0, 1)
    pass(3)
    expect(control.timings()).toEqual({ read: 10, pre: 10, wait: 40, infer: 100, write: 3 })
  })

  it('tells every stage, and windows no more than ten times a second', async () => {
    const { control, said, pass } = build()
    await control.checkpoint('pre', 0, 1)
    for (let window = 0; window < 30; window++) {
      await control.checkpoint('infer', window, 30)
      pass(20)
    }
    expect(said).toEqual(['pre 0/1', ...[0, 5, 10, 15, 20, 25].map((window) => `infer ${window}/30`)])
  })

  it('tells at once when another part of the model begins', async () => {
    const { control, said } = build()
    await control.checkpoint('infer', 0, 2, 'organs (1 of 2)')
    await control.checkpoint('infer', 1, 2, 'organs (1 of 2)')
    await control.checkpoint('infer', 0, 2, 'bones (2 of 2)')
    expect(said).toEqual(['infer 0/2 organs (1 of 2)', 'infer 0/2 bones (2 of 2)'])
  })

  it('asks for the device once, however deep and however many windows, and gives it back after the last stage', async () => {
    const { control, said } = build()
    const nested = control.withDevice(() => control.withDevice(async () => 7))
    control.granted()
    expect(await nested).toBe(7)
    expect(await control.withDevice(async () => 8)).toBe(8)
    expect(said).toEqual(['want'])
    await control.checkpoint('post', 0, 1)
    expect(said).toEqual(['want', 'release', 'post 0/1'])
  })

  it('gives the device back after the window when somebody waits, also after an error', async () => {
    const { control, said } = build()
    const failing = control.withDevice(async () => {
      control.yield()
      said.push('window')
      throw new Error('no')
    })
    control.granted()
    await expect(failing).rejects.toThrow('no')
    const next = control.withDevice(async () => said.push('window'))
    control.granted()
    await next
    control.yield()
    control.yield()
    expect(said).toEqual(['want', 'window', 'release', 'want', 'window', 'release'])
  })

  it('a cancel ends the job at its next checkpoint, or where it waits for the device', async () => {
    const { control, said } = build()
    const waiting = control.withDevice(async () => said.push('worked'))
    waiting.catch(() => {})
    control.cancel()
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED' })
    await expect(control.checkpoint('infer', 0, 1)).rejects.toMatchObject({ code: 'CANCELLED' })
    await expect(control.withDevice(async () => 1)).rejects.toMatchObject({ code: 'CANCELLED' })
    // A grant that crossed the cancel goes straight back.
    control.granted()
    expect(said).toEqual(['want', 'infer 0/1', 'release'])
  })

  it('lets messages in at each checkpoint', async () => {
    const { control } = build()
    setImmediate(() => control.cancel())
    await expect(
      (async () => {
        for (;;) await control.checkpoint('infer', 0, 1)
      })(),
    ).rejects.toMatchObject({ code: 'CANCELLED' })
    await settle()
  })
})
