/** Names of files and voxels that server and runner share: what a result may be called and how large an image may be. */
import { z } from 'zod'

export const RESULT_EXTENSIONS = ['.nii.gz', '.nii', '.nrrd', '.seg.nrrd', '.mha', '.png', '.jpg'] as const
export const ResultExtension = z.enum(RESULT_EXTENSIONS)
export type ResultExtension = z.infer<typeof ResultExtension>

/** numpy's names, which `result_dtype` and writers use. */
export const DtypeName = z.enum(['uint8', 'int8', 'uint16', 'int16', 'uint32', 'int32', 'float32', 'float64'])
export type DtypeName = z.infer<typeof DtypeName>

export const ReadLimits = z
  .object({
    /**
     * Bytes of memory that the images of one request and the work on them may take at once (see volume/room.ts); also of
     * one unpacked file.
     */
    maxVolumeBytes: z.number(),
    /** How many of them are taken already, by images of the same request. */
    heldBytes: z.number().optional(),
    /** Voxels of one image, channels included. */
    maxVoxels: z.number(),
    /** Voxels that a transform may make of one image, or twice the image's own where those are more. */
    maxGridVoxels: z.number().optional(),
  })
  .readonly()
export type ReadLimits = z.infer<typeof ReadLimits>
