import { describe, expect, it } from 'vitest'
import { DeviceSlots } from '../../../src/scheduler/device-slots.js'

const log = <T>(granted: T[], name: T) => ({ onGrant: () => granted.push(name), onWanted: () => {} })

describe('DeviceSlots', () => {
  it('tells the holder, once, that others wait, whoever came first', () => {
    const slots = new DeviceSlots(() => 1)
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
    const slots = new DeviceSlots(() => 1)
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
    const slots = new DeviceSlots(() => 1)
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
    const slots = new DeviceSlots(() => 2)
    const granted: number[] = []
    for (const n of [1, 2, 3]) slots.acquire('kserve', log(granted, n))
    expect(granted).toEqual([1, 2])
  })
})
