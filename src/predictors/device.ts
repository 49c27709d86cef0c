import type { DeviceWish } from '../contract/wire.js'

/** Reads `auto`, `cpu`, `cuda` or `cuda:1`; undefined for anything else. */
export function parseDevice(text: string): DeviceWish | undefined {
  const match = /^(?:(auto|cpu)|cuda(?::(\d{1,2}))?)$/.exec(text)
  if (!match) return undefined
  const kind = match[1] as 'auto' | 'cpu' | undefined
  return kind ? { kind, index: 0 } : { kind: 'cuda', index: Number(match[2] ?? 0) }
}
