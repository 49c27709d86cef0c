/** What a client says of a DICOM server that images are to come from. */
import { z } from 'zod'

const AeTitle = z
  .string()
  .regex(/^[\x20-\x5b\x5d-\x7e]{1,16}$/, { error: 'must be 1 to 16 characters without a backslash' })
const Uid = z.string().regex(/^[0-9][0-9.]{0,63}$/, { error: 'must be a DICOM UID' })

export const DicomSource = z.strictObject({
  server_address: z.string().min(1).max(255),
  server_port: z.coerce.number().int().min(1).max(65_535).default(104),
  ae_title: AeTitle,
  calling_ae_title: AeTitle.optional(),
  query_level: z
    .string()
    .toUpperCase()
    .pipe(z.enum(['PATIENT', 'STUDY', 'SERIES']))
    .default('SERIES'),
  patient_id: z.string().min(1).max(64).optional(),
  study_uid: Uid.optional(),
  series_uid: Uid.optional(),
  tls: z.boolean().default(false),
})
export type DicomSource = z.infer<typeof DicomSource>
