import { describe, expect, it } from 'vitest'
import type { Predictor } from '../../../src/contract/tensor.js'
import { NetworkShelf, shelvedPredictor } from '../../../src/predictors/network-shelf.js'

/** Networks that tell when they are opened and closed. */
function shelf(bytes: readonly number[], keep: number) {
  const said: string[] = []
  const network = (i: number): Predictor => ({
    inputs: [],
    outputs: [],
    device: `device ${i}`,
    run: async () => {
      said.push(`run ${i}`)
      return {}
    },
    close: async () => {
      said.push(`close ${i}`)
    },
  })
  const made = new NetworkShelf(
    bytes.map((size, i) => ({
      bytes: size,
      open: async () => {
        said.push(`open ${i}`)
        return network(i)
      },
    })),
    keep,
  )
  return { made, said, network }
}
const run = ({ run: start }: Predictor) => start({})

describe('NetworkShelf', () => {
  it('without room has one network open at a time, however often all are asked', async () => {
    const { made, said } = shelf([10, 10, 10], 9)
    for (const i of [0, 1, 2, 0]) await made.lend(i, run)
    expect(said).toEqual([0, 1, 2, 0].flatMap((i) => [`open ${i}`, `run ${i}`, `close ${i}`]))
  })
  it('keeps the first that fit and opens the others for their turn', async () => {
    const { made, said } = shelf([10, 10, 10], 20)
    for (const i of [0, 1, 2, 0, 1, 2]) await made.lend(i, run)
    expect(said.filter((word) => !word.startsWith('run'))).toEqual([
      'open 0',
      'open 1',
      'open 2',
      'close 2',
      'open 2',
      'close 2',
    ])
    await made.close()
    expect(said.slice(-2)).toEqual(['close 0', 'close 1'])
  })
  it('closes a network whose work failed', async () => {
    const { made, said } = shelf([10], 0)
    const failing = made.lend(0, async () => {
      throw new Error('no')
    })
    await expect(failing).rejects.toThrow('no')
    expect(said).toEqual(['open 0', 'close 0'])
  })
  it('opens a network once to know it, and takes over one that is open', async () => {
    const { made, said, network } = shelf([10, 10], 10)
    await made.adopt(0, network(0))
    expect((await shelvedPredictor(made, 0)).device).toBe('device 0')
    await made.facts(1)
    expect((await made.facts(1)).device).toBe('device 1')
    await made.lend(0, run)
    expect(said).toEqual(['open 1', 'close 1', 'run 0'])
  })
})
