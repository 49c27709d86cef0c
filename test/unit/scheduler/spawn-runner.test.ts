import { describe, expect, it } from 'vitest'
import { runnerEnvironment } from '../../../src/scheduler/spawn-runner.js'

describe('the environment of a runner', () => {
  it("has the server's variables without its settings", () => {
    const made = runnerEnvironment({ PATH: '/bin', AIDANT_TOKENS: 'secret', aidant_port: '1' })
    expect(made).toMatchObject({ PATH: '/bin' })
    expect(Object.keys(made).filter((name) => /aidant/i.test(name))).toEqual([])
  })

  it.each([
    ['asks for large pages', undefined, 'glibc.malloc.hugetlb=1'],
    [
      'lets what an operator has tuned go last, and so win',
      'glibc.malloc.hugetlb=0',
      'glibc.malloc.hugetlb=1:glibc.malloc.hugetlb=0',
    ],
  ])('%s', (_, tuned, expected) => {
    expect(runnerEnvironment(tuned === undefined ? {} : { GLIBC_TUNABLES: tuned }).GLIBC_TUNABLES).toBe(expected)
  })
})
