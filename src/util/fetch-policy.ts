/**
 * Which machines the server may contact on a client's word: none, unless the operator named them with --allow-fetch.
 * Names are resolved here, every address is checked, and callers connect to the address that was checked.
 *
 * A rule is `host[:port]`, `address[/bits][:port]` or `host[:port]/address/bits`. A rule with an address allows exactly
 * that block, whatever name led there. A rule with a name allows that name, wherever it leads except to loopback and
 * link-local addresses. A wide block does not name those either: they must be named themselves.
 */
import { lookup as dnsLookup } from 'node:dns/promises'
import { BlockList, isIP } from 'node:net'
import { AppError } from '../errors.js'
import { dottedQuad, ipv6Words, plainAddress } from './ip-address.js'

export interface ResolvedAddress {
  readonly address: string
  readonly family: 4 | 6
}

export type Lookup = (host: string) => Promise<readonly ResolvedAddress[]>

export interface Endpoint {
  /** As the client named it, in canonical form: lower case, numbers as dotted quads. */
  readonly host: string
  readonly port: number
  /** What to connect to: checked, in the resolver's order. */
  readonly address: string
  readonly family: 4 | 6
}

export interface FetchPolicy {
  readonly enabled: boolean
  /** Resolves and checks. Throws FETCH_FORBIDDEN, FETCH_FAILED when the name does not resolve, BAD_PARAMS for no host. */
  admit(host: string, port: number): Promise<Endpoint>
  /** Whether a rule with an address, whatever its port, covers a peer that connects to us. */
  namesAddress(address: string): boolean
}

interface Block {
  readonly address: string
  readonly family: 4 | 6
  readonly bits: number
  readonly list: BlockList
}

interface Rule {
  /** Undefined in a rule that is only a block. */
  readonly name: string | undefined
  readonly block: Block | undefined
  readonly port: number | undefined
}

/** Ranges no name and no wide block reaches: this machine itself, its link (cloud metadata lives there), no machine at all. */
const RESERVED: readonly Block[] = [
  block('127.0.0.0', 8),
  block('::1', 128),
  block('169.254.0.0', 16),
  block('fe80::', 10),
  block('fd00:ec2::254', 128),
  block('100.100.100.200', 32),
  block('0.0.0.0', 8),
  block('::', 128),
  block('224.0.0.0', 3),
  block('ff00::', 8),
]

/** Reads the rules. Throws RangeError naming the rule that is none. */
export function createFetchPolicy(rules: readonly string[], lookup: Lookup = lookupAll): FetchPolicy {
  const parsed = rules.map(parseRule)
  return {
    enabled: parsed.length > 0,
    namesAddress(address) {
      return isIP(address) !== 0 && parsed.some((rule) => rule.name === undefined && allows(rule, unmapped(address)))
    },
    async admit(host, port) {
      const name = canonicalHost(host)
      if (parsed.length === 0) {
        throw new AppError('FETCH_FORBIDDEN', 'this server does not fetch images: fetching is off', {
          hint: `The operator turns it on for a host with --allow-fetch ${name}:${port}.`,
        })
      }
      const candidates = parsed.filter(
        (rule) => (rule.port ?? port) === port && (rule.name === undefined || rule.name === name),
      )
      // A name that no rule could admit is not even resolved, and looks the same whether it exists or not.
      const named = candidates.some((rule) => rule.name === name)
      const addresses = candidates.length > 0 ? await resolveHost(name, lookup, named) : []
      const found = addresses.find((address) => candidates.some((rule) => allows(rule, address)))
      if (found) return { host: name, port, ...found }
      throw new AppError('FETCH_FORBIDDEN', `this server may not fetch from ${name}:${port}`, {
        hint: `The operator allows it with --allow-fetch ${name}:${port}.`,
      })
    },
  }
}

async function lookupAll(host: string): Promise<ResolvedAddress[]> {
  const found = await dnsLookup(host, { all: true })
  return found.map(({ address, family }) => ({ address, family: family === 6 ? 6 : 4 }))
}

async function resolveHost(name: string, lookup: Lookup, named: boolean): Promise<ResolvedAddress[]> {
  const literal = isIP(name)
  if (literal) return [unmapped(name)]
  try {
    return (await lookup(name)).map(({ address }) => unmapped(address))
  } catch (cause) {
    if (!named) return []
    throw new AppError('FETCH_FAILED', `the host ${name} is not known`, { cause })
  }
}

function allows(rule: Rule, { address, family }: ResolvedAddress): boolean {
  const version = family === 6 ? 'ipv6' : 'ipv4'
  const inBlock = rule.block === undefined || rule.block.list.check(address, version)
  if (!inBlock) return false
  const reserved = RESERVED.find((range) => range.list.check(address, version))
  if (!reserved) return true
  if (rule.name === 'localhost' && (reserved.address === '127.0.0.0' || reserved.address === '::1')) return true
  return rule.block !== undefined && within(rule.block, reserved)
}

function within(inner: Block, outer: Block): boolean {
  const version = inner.family === 6 ? 'ipv6' : 'ipv4'
  return inner.family === outer.family && inner.bits >= outer.bits && outer.list.check(inner.address, version)
}

const HOST_NAME = /^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/

function parseRule(text: string): Rule {
  const bad = () =>
    new RangeError(
      `'${text}' is not a host to allow; write host[:port] or address[/bits][:port], as in pacs.example:104 or 10.0.0.0/8`,
    )
  const match =
    /^(\[[^\]]+\]|[^:/[\]]+|[0-9a-f:]+:[0-9a-f:.]*)(?::(\d{1,5}))?(?:\/(?:(.+)\/)?(\d{1,3}))?(?::(\d{1,5}))?$/i.exec(
      text,
    )
  if (!match) throw bad()
  const [, hostText, portBefore, range, bitsText, portAfter] = match
  const portText = portBefore ?? portAfter
  const port = portText === undefined ? undefined : Number(portText)
  if (port !== undefined && (port < 1 || port > 65_535)) throw bad()
  try {
    const host = canonicalHost(hostText!)
    const bits = bitsText === undefined ? undefined : Number(bitsText)
    if (range !== undefined) return { name: host, block: block(bare(range), bits!), port }
    if (!isIP(host)) {
      // A pattern would match nothing: names are compared as they are.
      if (bits !== undefined || !HOST_NAME.test(host)) throw bad()
      return { name: host, block: undefined, port }
    }
    const { address, family } = bits === undefined ? unmapped(host) : { address: host, family: isIP(host) as 4 | 6 }
    return { name: undefined, block: block(address, bits ?? (family === 6 ? 128 : 32)), port }
  } catch {
    throw bad()
  }
}

function block(address: string, bits: number): Block {
  const family = isIP(address) === 6 ? 6 : 4
  const list = new BlockList()
  list.addSubnet(address, bits, family === 6 ? 'ipv6' : 'ipv4')
  return { address, family, bits, list }
}

/** Lower case, without a trailing dot or brackets; 2130706433, 0x7f.1 and the like become dotted quads, as browsers read them. */
function canonicalHost(host: string): string {
  const wrapped = isIP(host) === 6 ? `[${host}]` : host
  const url = /[\s/?#@\\%]|^[^[]*:|^$/.test(wrapped) ? null : tryUrl(wrapped)
  if (!url || url.hostname === '' || url.port !== '')
    throw new AppError('BAD_PARAMS', 'the host to fetch from is not a host name or an address')
  return bare(url.hostname).replace(/\.$/, '')
}

function tryUrl(host: string): URL | null {
  try {
    return new URL(`http://${host}`)
  } catch {
    return null
  }
}

const bare = (host: string): string => host.replace(/^\[|\]$/g, '')

/**
 * An address as the IPv4 address it stands for, if it does: IPv4-mapped, IPv4-compatible, NAT64 and 6to4 forms. No machine
 * (0.0.0.0, ::) stands for this one, since that is where a connection to it ends.
 */
function unmapped(address: string): ResolvedAddress {
  const plain = plainAddress(address)
  if (isIP(plain) === 4) return { address: plain === '0.0.0.0' ? '127.0.0.1' : plain, family: 4 }
  const words = ipv6Words(plain)
  if (words.every((word) => word === 0)) return { address: '::1', family: 6 }
  const compatible = words[6] !== 0 && words.slice(0, 6).every((word) => word === 0)
  const nat64 = words[0] === 0x64 && words[1] === 0xff9b && words.slice(2, 6).every((word) => word === 0)
  if (compatible || nat64) return unmapped(dottedQuad(words[6]!, words[7]!))
  if (words[0] === 0x2002) return unmapped(dottedQuad(words[1]!, words[2]!))
  return { address: plain, family: 6 }
}
