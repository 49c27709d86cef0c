/** The header of a NRRD file: LPS+, attached, channels as the last axis. */
import { flipLpsRas } from '../volume/quaternion.js'
import type { Volume } from '../volume/volume.js'
import type { DtypeName } from './format.js'

const TYPES: Readonly<Record<DtypeName, string>> = {
  int8: 'signed char',
  uint8: 'unsigned char',
  int16: 'short',
  uint16: 'unsigned short',
  int32: 'int',
  uint32: 'unsigned int',
  float32: 'float',
  float64: 'double',
}

/** Everything before the voxels, which follow in x-fastest order, little-endian; `keyValues` are lines of `key:=value`. */
export function nrrdHeaderBytes(
  volume: Volume,
  dtype: DtypeName,
  { gzip, keyValues = [] }: { gzip: boolean; keyValues?: readonly string[] },
): Uint8Array {
  const { size, channels } = volume
  const lps = flipLpsRas(volume.affine)
  const column = (c: number) => `(${lps[c]!},${lps[4 + c]!},${lps[8 + c]!})`
  const several = channels > 1
  const lines = [
    'NRRD0004',
    '# Complete NRRD file format specification at:',
    '# http://teem.sourceforge.net/nrrd/format.html',
    `type: ${TYPES[dtype]}`,
    `dimension: ${several ? 4 : 3}`,
    'space: left-posterior-superior',
    `sizes: ${[...size, ...(several ? [channels] : [])].join(' ')}`,
    `space directions: ${column(0)} ${column(1)} ${column(2)}${several ? ' none' : ''}`,
    `kinds: domain domain domain${several ? ' list' : ''}`,
    'endian: little',
    `encoding: ${gzip ? 'gzip' : 'raw'}`,
    `space origin: ${column(3)}`,
    ...keyValues,
  ]
  return Buffer.from(`${lines.join('\n')}\n\n`, 'utf8')
}
