import { describe, expect, it } from 'vitest'
import { DeviceSlots } from '../../../src/scheduler/device-slots.js'

describe('DeviceSlots', () => {
  it('grants one at a time per device, in the order asked', () => {
    const slots = new DeviceSlots(() => 1)
    const granted: string[] = []
    const a = slots.acquire('cpu', () => granted.push('a'))
    const b = slots.acquire('cpu', () => granted.push('b'))
    slots.acquire('cuda:0', () => granted.push('gpu'))
    slots.acquire('cpu', () => granted.push('c'))
    expect(granted).toEqual(['a', 'gpu'])
    a.release()
    a.release()
    expect(granted).toEqual(['a', 'gpu', 'b'])
    b.release()
    expect(granted).toEqual(['a', 'gpu', 'b', 'c'])
    expect(slots.held('cpu')).toBe(1)
  })

  it('a place given up before its turn is skipped', () => {
    const slots = new DeviceSlots(() => 1)
    const granted: string[] = []
    const a = slots.acquire('cpu', () => granted.push('a'))
    const b = slots.acquire('cpu', () => granted.push('b'))
    const c = slots.acquire('cpu', () => granted.push('c'))
    b.release()
    a.release()
    expect(granted).toEqual(['a', 'c'])
    c.release()
    expect(slots.held('cpu')).toBe(0)
  })

  it('grants as many as a device takes', () => {
    const slots = new DeviceSlots(() => 2)
    const granted: number[] = []
    for (const n of [1, 2, 3]) slots.acquire('kserve', () => granted.push(n))
    expect(granted).toEqual([1, 2])
  })
})
