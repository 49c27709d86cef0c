/** A flag's hosts as a question: is this address one of them? */
import { lookup } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'
import { plainAddress } from '../util/ip-address.js'

export type IsListed = (address: string) => boolean

/**
 * Resolves the hosts once, at start: addresses, CIDR blocks, names. Throws an Error naming the entry that is none of these,
 * or a name that does not resolve.
 */
export async function createHostList(hosts: readonly string[], flag: string): Promise<IsListed> {
  const listed = new BlockList()
  for (const entry of hosts) await addEntry(listed, entry, flag)
  return (address) => {
    const version = isIP(address)
    return version !== 0 && listed.check(address, version === 4 ? 'ipv4' : 'ipv6')
  }
}

async function addEntry(listed: BlockList, entry: string, flag: string): Promise<void> {
  const [base, bits, rest] = entry.split('/')
  const address = plainAddress(base!)
  const version = isIP(address)
  if (bits !== undefined) {
    const most = version === 4 ? 32 : 128
    if (version === 0 || rest !== undefined || !/^\d+$/.test(bits) || Number(bits) > most)
      throw new Error(`${flag}: '${entry}' is not a CIDR block such as 10.0.0.0/8`)
    listed.addSubnet(address, Number(bits), version === 4 ? 'ipv4' : 'ipv6')
    return
  }
  if (version !== 0) {
    listed.addAddress(address, version === 4 ? 'ipv4' : 'ipv6')
    return
  }
  try {
    for (const found of await lookup(address, { all: true }))
      listed.addAddress(found.address, found.family === 4 ? 'ipv4' : 'ipv6')
  } catch (cause) {
    throw new Error(`${flag}: the name '${entry}' does not resolve`, { cause })
  }
}
