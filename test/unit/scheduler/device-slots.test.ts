import { describe, expect, it } from 'vitest'
import { DeviceSlots } from '../../../src/scheduler/device-slots.js'

const log = <T>(granted: T[], name: T) => ({ onGrant: () => granted.push(name), onWanted: () => {} })

describe('DeviceSlots', () => {
  it('tells the holder, once, that others wait, whoever came first', () => {
    const slots = new DeviceSlots(() => ({ places: 1, whole: 1 }))
    const said: string[] = []
    const hold = (name: string) =>
      slots.acquire('cpu', { onGrant: () => said.push(`${name} has it`), onWanted: () => said.push(`${name}: wanted`) })
    const a = hold('a')
    hold('b')
    hold('c')
    a.release()
    expect(said).toEqual(['a has it', 'a: wanted', 'b has it', 'b: wanted'])
  })

  it('grants one at a time per device, in the order asked', () => {
    const slots = new DeviceSlots(() => ({ places: 1, whole: 1 }))
    const granted: string[] = []
    const a = slots.acquire('cpu', log(granted, 'a'))
    const b = slots.acquire('cpu', log(granted, 'b'))
    slots.acquire('cuda:0', log(granted, 'gpu'))
    slots.acquire('cpu', log(granted, 'c'))
    expect(granted).toEqual(['a', 'gpu'])
    a.release()
    a.release()
    expect(granted).toEqual(['a', 'gpu', 'b'])
    b.release()
    expect(granted).toEqual(['a', 'gpu', 'b', 'c'])
  })

  it('a place given up before its turn is skipped', () => {
    const slots = new DeviceSlots(() => ({ places: 1, whole: 1 }))
    const granted: string[] = []
    const a = slots.acquire('cpu', log(granted, 'a'))
    const b = slots.acquire('cpu', log(granted, 'b'))
    const c = slots.acquire('cpu', log(granted, 'c'))
    b.release()
    a.release()
    expect(granted).toEqual(['a', 'c'])
    c.release()
    slots.acquire('cpu', log(granted, 'd'))
    expect(granted).toEqual(['a', 'c', 'd'])
  })

  it('grants as many as a device takes', () => {
    const slots = new DeviceSlots(() => ({ places: 2, whole: 1 }))
    const granted: number[] = []
    for (const n of [1, 2, 3]) slots.acquire('kserve', log(granted, n))
    expect(granted).toEqual([1, 2])
  })

  describe('of a device that can be shared', () => {
    /** Holders by name; what happened to whom is in `said`. */
    const shareable = () => {
      const slots = new DeviceSlots(() => ({ places: 2, whole: 2 }))
      const said: string[] = []
      const crowd = { yes: true }
      const hold = (name: string, mayShare?: () => boolean) =>
        slots.acquire('cpu', {
          ...(mayShare ? { mayShare } : {}),
          onGrant: (shared) => said.push(`${name} ${shared ? 'shares' : 'has all'}`),
          onWanted: () => said.push(`${name}: wanted`),
        })
      return { slots, said, crowd, hold, share: (name: string) => hold(name, () => crowd.yes) }
    }

    it('gives each who shares one place, and the next a place that comes free', () => {
      const { said, share } = shareable()
      const a = share('a')
      share('b')
      share('c')
      a.release()
      expect(said).toEqual(['a shares', 'b shares', 'a: wanted', 'b: wanted', 'c shares'])
    })

    it('gives all of it to one who is alone, and asks it back when others come', () => {
      const { said, crowd, share } = shareable()
      crowd.yes = false
      const a = share('a')
      crowd.yes = true
      share('b')
      a.release()
      share('a again')
      expect(said).toEqual(['a has all', 'a: wanted', 'b shares', 'a again shares'])
    })

    it('keeps nobody waiting for ever who needs all of it: those who came later wait behind', () => {
      const { said, hold, share } = shareable()
      const a = share('a')
      const b = share('b')
      hold('all')
      share('c')
      a.release()
      expect(said.filter((line) => !line.endsWith('wanted'))).toEqual(['a shares', 'b shares'])
      b.release()
      expect(said.filter((line) => !line.endsWith('wanted')).slice(2)).toEqual(['all has all'])
    })

    it('tells one who shares with nobody any more that it may have all, once', () => {
      const { slots, said, crowd, share } = shareable()
      const a = share('a')
      share('b')
      slots.reconsider()
      expect(said).toEqual(['a shares', 'b shares'])
      a.release()
      slots.reconsider()
      expect(said).toEqual(['a shares', 'b shares'])
      crowd.yes = false
      slots.reconsider()
      slots.reconsider()
      expect(said).toEqual(['a shares', 'b shares', 'b: wanted'])
    })
  })
})
