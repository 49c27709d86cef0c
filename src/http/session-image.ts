/** The image of a session, as a job takes it. */
import { z } from 'zod'
import type { JobImage } from '../contract/job.js'
import type { HeldSession } from '../sessions/sessions.js'

/** Of what ingest wrote down of the image, the part that jobs need. */
const Facts = z.object({
  format: z.string(),
  colours: z.literal([3, 4]).optional(),
  notes: z.array(z.string()).optional(),
  uneven: z.string().optional(),
})

const PICTURES: readonly string[] = ['png', 'tiff', 'bmp']

/** The volume decoded at upload, with what its reader said of the file. */
export function sessionImage({ meta, volumePath }: HeldSession): JobImage {
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
export function sessionMask(session: HeldSession): JobImage {
  const image = sessionImage(session)
  const picture = PICTURES.includes(Facts.parse(session.meta.image).format)
  return picture ? { ...image, paths: [session.sourcePath] } : image
}
