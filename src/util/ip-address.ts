/** Addresses as sockets and people write them, brought to one form. */
import { isIP, SocketAddress } from 'node:net'

/**
 * An address without its brackets and zone (`[fe80::1%eth0]` → fe80::1), and as an IPv4 address where it is one in IPv6's
 * clothes (::ffff:10.0.0.1, ::ffff:a00:1), as a dual-stack socket shows it. What is no address comes back as it is.
 */
export function plainAddress(address: string): string {
  const bare = address.replace(/^\[|\]$/g, '')
  // A name has no zone: what follows a percent sign in it is part of it.
  const plain = bare.includes(':') ? bare.replace(/%.*$/, '') : bare
  if (isIP(plain) !== 6) return plain
  const words = ipv6Words(plain)
  const mapped = words[5] === 0xffff && words.slice(0, 5).every((word) => word === 0)
  return mapped ? dottedQuad(words[6]!, words[7]!) : plain
}

/** Whether the name or address is this machine itself. */
export function isLoopback(host: string): boolean {
  const address = plainAddress(host.toLowerCase())
  return (
    address === 'localhost' ||
    address.endsWith('.localhost') ||
    address === '::1' ||
    (isIP(address) === 4 && address.startsWith('127.'))
  )
}

/** The eight 16-bit words of an IPv6 address. */
export function ipv6Words(address: string): number[] {
  // SocketAddress writes the canonical form, so only one '::' and perhaps a dotted tail are left to expand.
  const text = new SocketAddress({ address, family: 'ipv6' }).address
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text)
  const plain = dotted
    ? `${dotted[1]}${((Number(dotted[2]) << 8) | Number(dotted[3])).toString(16)}:${((Number(dotted[4]) << 8) | Number(dotted[5])).toString(16)}`
    : text
  const [head, tail] = plain.split('::')
  const left = head ? head.split(':') : []
  const right = tail ? tail.split(':') : []
  const gap = tail === undefined ? 0 : 8 - left.length - right.length
  return [...left, ...Array.from({ length: gap }, () => '0'), ...right].map((word) => Number.parseInt(word, 16))
}

/** The IPv4 address in two 16-bit words. */
export function dottedQuad(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}
