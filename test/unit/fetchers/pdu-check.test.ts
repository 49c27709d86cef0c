import fc from 'fast-check'
import { expect, test } from 'vitest'
import { pduCheck } from '../../../src/fetchers/dimse-store.js'

const pdu = (length: number, announced = length): Buffer => {
  const bytes = Buffer.alloc(6 + length, 0xff)
  bytes[0] = 4
  bytes.writeUInt32BE(announced, 2)
  return bytes
}

function feed(bytes: Buffer, sizes: readonly number[]): void {
  const check = pduCheck()
  for (let at = 0, i = 0; at < bytes.length; at += sizes[i++ % sizes.length]!)
    check(bytes.subarray(at, at + sizes[i % sizes.length]!))
}

const lengths = fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 8 })
const sizes = fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 5 })

test('honest PDUs pass, however they are cut', () => {
  fc.assert(fc.property(lengths, sizes, (all, cuts) => feed(Buffer.concat(all.map((length) => pdu(length))), cuts)))
})

test('one that claims too much is noticed, wherever it stands', () => {
  fc.assert(
    fc.property(lengths, sizes, fc.integer({ min: 4 * 1024 * 1024 + 1, max: 0xffffffff }), (all, cuts, claim) => {
      const bytes = Buffer.concat([...all.map((length) => pdu(length)), pdu(0, claim)])
      expect(() => feed(bytes, cuts)).toThrow(/PDU is too long/)
    }),
  )
})
