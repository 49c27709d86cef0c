/** An image that is stored here, as a job takes it. */
import { z } from 'zod'
import type { JobImage } from '../contract/job.js'
import type { SessionMeta } from '../sessions/sessions.js'
import type { Output } from './reply.js'

/** An image that lies here decoded, a session's or the datastore's: it stays as it is while it is held. */
export interface HeldImage {
  readonly meta: Pick<SessionMeta, 'id' | 'extension' | 'source' | 'image'>
  readonly volumePath: string
  readonly sourcePath: string
  readonly seriesPaths: readonly string[]
  release(): Promise<void>
}

/** Of what ingest wrote down of the image, the part that jobs need. */
const Facts = z.object({
  format: z.string(),
  colours: z.literal([3, 4]).optional(),
  notes: z.array(z.string()).optional(),
  uneven: z.string().optional(),
})

const PICTURES: readonly string[] = ['png', 'tiff', 'bmp']

/** The volume decoded at upload, with what its reader said of the file. */
export function sessionImage({ meta, volumePath }: HeldImage): JobImage {
  const { format, colours, notes, uneven } = Facts.parse(meta.image)
  const fromDicom = format === 'dicom' && meta.extension !== '.png'
  return {
    field: 'image',
    paths: [volumePath],
    cacheKey: meta.id,
    extension: meta.extension,
    fromDicom,
    colours,
    notes,
    uneven,
  }
}

/** The same as a mask: a picture may keep its labels in its palette or its transparency, which the volume has not. */
export function sessionMask(session: HeldImage): JobImage {
  const image = sessionImage(session)
  const picture = PICTURES.includes(Facts.parse(session.meta.image).format)
  return picture ? { ...image, paths: [session.sourcePath] } : image
}

/** A DICOM SEG refers to the slices themselves; every other result is computed from the volume decoded at upload. */
export function imageForOutput(held: HeldImage, output: Output | undefined): JobImage {
  const { seriesPaths } = held
  if (output === 'dicom_seg' && seriesPaths.length > 0) return { field: 'image', paths: seriesPaths }
  return sessionImage(held)
}
