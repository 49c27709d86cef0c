/** What a transform may make of an image, checked before anything is allocated for it. */
import { AppError } from '../errors.js'
import { askRoom, bytesHeld } from '../volume/room.js'
import type { Vec3 } from '../volume/volume.js'
import type { ImageField, Item } from './types.js'

/** Where no setting says otherwise: a whole body at 0.7 mm; 2 GiB as float32. Images that are large themselves may double. */
const MOST_VOXELS = 2 ** 29

/**
 * Rejects TOO_LARGE. A small file whose header gives its voxel sizes in the wrong unit would otherwise be resampled into
 * more memory than any machine has.
 */
export function checkNewGrid(
  { volume, source }: Pick<ImageField, 'volume' | 'source'>,
  size: Vec3,
  name: string,
): void {
  const { size: own, channels } = volume
  const most = Math.max(source.mostVoxels ?? MOST_VOXELS, 2 * own[0] * own[1] * own[2] * channels)
  const voxels = size[0] * size[1] * size[2] * channels
  if (voxels <= most) {
    // as float32, and the image as such beside it
    askBeside({ volume, source }, 4 * (volume.data.length + voxels), `${name}, which makes ${size.join('x')} voxels,`)
    return
  }
  throw new AppError(
    'TOO_LARGE',
    `${name} would make ${size.join('x')} voxels of the image; at most ${most} are possible`,
    {
      hint: 'check that the header of the image gives its voxel sizes in millimetres; the limit is --max-grid-voxels',
    },
  )
}

/** Throws TOO_LARGE when `bytes` beside a field's voxels, and those of the file, are more than its request may take. */
export function askBeside(
  { volume, source }: Pick<ImageField, 'volume' | 'source'>,
  bytes: number,
  what: string,
): void {
  const { room } = source
  if (room) askRoom(bytes, bytesHeld([...room.held, volume.data.buffer]), room.bytes, what)
}

/**
 * The same before a step that works on the fields `keys` of an item, on all of them where it names none: it may make
 * float32 voxels as many as the largest of them has. Steps that make another grid ask for that themselves.
 */
export function askForStep({ images }: Item, keys: readonly string[], what: string): void {
  const fields = [...images.values()]
  const room = fields.find(({ source }) => source.room)?.source.room
  if (!room) return
  const named = keys.flatMap((key) => images.get(key) ?? [])
  const most = Math.max(...(named.length > 0 ? named : fields).map(({ volume }) => volume.data.length))
  const held = bytesHeld([...room.held, ...fields.map(({ volume }) => volume.data.buffer)])
  askRoom(4 * most, held, room.bytes, what)
}
