/** The header of a .mha file: LPS+, voxels behind it, the numbers of one voxel together. */
import { flipLpsRas } from '../volume/quaternion.js'
import { spacingOf, type Volume } from '../volume/volume.js'
import type { DtypeName } from './format.js'

const TYPES: Readonly<Record<DtypeName, string>> = {
  int8: 'MET_CHAR',
  uint8: 'MET_UCHAR',
  int16: 'MET_SHORT',
  uint16: 'MET_USHORT',
  int32: 'MET_INT',
  uint32: 'MET_UINT',
  float32: 'MET_FLOAT',
  float64: 'MET_DOUBLE',
}

/** Everything before the voxels, of which there are `packedBytes` when they are compressed. */
export function metaHeaderBytes(volume: Volume, dtype: DtypeName, packedBytes: number | undefined): Uint8Array {
  const { size, channels } = volume
  const lps = flipLpsRas(volume.affine)
  const spacing = spacingOf(volume)
  const directions = [0, 1, 2].flatMap((axis) => [0, 1, 2].map((row) => lps[row * 4 + axis]! / spacing[axis]!))
  const lines = [
    'ObjectType = Image',
    'NDims = 3',
    'BinaryData = True',
    'BinaryDataByteOrderMSB = False',
    `CompressedData = ${packedBytes === undefined ? 'False' : 'True'}`,
    ...(packedBytes === undefined ? [] : [`CompressedDataSize = ${packedBytes}`]),
    `TransformMatrix = ${directions.join(' ')}`,
    `Offset = ${[lps[3], lps[7], lps[11]].join(' ')}`,
    'CenterOfRotation = 0 0 0',
    `AnatomicalOrientation = ${orientationOf(lps)}`,
    `ElementSpacing = ${spacing.join(' ')}`,
    `DimSize = ${size.join(' ')}`,
    ...(channels > 1 ? [`ElementNumberOfChannels = ${channels}`] : []),
    `ElementType = ${TYPES[dtype]}`,
    'ElementDataFile = LOCAL',
  ]
  return Buffer.from(`${lines.join('\n')}\n`, 'latin1')
}

const FROM = ['RL', 'AP', 'IS'] as const

/** ITK's letters: the side that each axis comes from. */
function orientationOf(lps: Float64Array): string {
  return [0, 1, 2]
    .map((axis) => {
      const column = [0, 1, 2].map((row) => lps[row * 4 + axis]!)
      const row = column.reduce((best, value, i) => (Math.abs(value) > Math.abs(column[best]!) ? i : best), 0)
      return FROM[row]![column[row]! < 0 ? 1 : 0]
    })
    .join('')
}
