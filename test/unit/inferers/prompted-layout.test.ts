import { describe, expect, it } from 'vitest'
import type { Parts } from '../../../src/contract/model.js'
import type { TensorSpec } from '../../../src/contract/tensor.js'
import { promptInputs, readLayout, takesPrompts } from '../../../src/inferers/prompted/layout.js'
import { toPicture } from '../../../src/inferers/prompted/picture.js'

const spec = (name: string, ...dims: TensorSpec['dims']): TensorSpec => ({ name, type: 'float32', dims })
const parts = (more: Partial<Parts> = {}): Parts => ({ feeds: {}, previousMask: true, maskThreshold: 0, ...more })
const NCHW = { inputs: [spec('image', 1, 3, 1024, 1024)] }
const sam = {
  inputs: [
    spec('image_embeddings', 1, 256, 64, 64),
    spec('point_coords', 1, 'n', 2),
    spec('point_labels', 1, 'n'),
    spec('mask_input', 1, 1, 256, 256),
    spec('has_mask_input', 1),
    spec('orig_im_size', 2),
  ],
  outputs: [
    spec('masks', 'a', 'b', 'h', 'w'),
    spec('iou_predictions', 'a', 'b'),
    spec('low_res_masks', 'a', 'b', 'c', 'd'),
  ],
}
const boxed = (name: string, ...dims: TensorSpec['dims']) => ({
  inputs: [spec('embedding', 1, 256, 64, 64), spec(name, ...dims)],
  outputs: [spec('masks', 1, 1, 256, 256)],
})

describe('the layout of a pair', () => {
  it.each([
    ['sam', NCHW, sam, {}, { layout: 'sam', size: [1024, 1024], pixels: 'imagenet', resize: 'longest', pads: true }],
    [
      'a picture of any size, its channels last',
      { inputs: [spec('input_image', 'height', 'width', 3)] },
      sam,
      {},
      { picture: { order: 'HWC', channels: 3 }, pixels: 'bytes', pads: false, size: [1024, 1024] },
    ],
    [
      'a batch of those',
      { inputs: [spec('x', 1, 512, 512, 3)] },
      sam,
      {},
      { picture: { order: 'NHWC' }, size: [512, 512] },
    ],
    ['a stated size', { inputs: [spec('x', 1, 3, 'h', 'w')] }, sam, { size: [512, 512] }, { size: [512, 512] }],
    ['grey', { inputs: [spec('x', 1, 1, 256, 256)] }, sam, {}, { picture: { channels: 1 }, layout: 'lite_medsam' }],
    ['boxes alone', NCHW, boxed('boxes', 1, 4), {}, { layout: 'medsam', prompts: ['box'], previousMask: false }],
    [
      'MedSAM, which has the tensors of SAM',
      NCHW,
      sam,
      { layout: 'medsam' },
      { pixels: 'minmax', resize: 'stretch', prompts: ['box'] },
    ],
    [
      'what the config states',
      NCHW,
      sam,
      { pixels: 'unit', resize: 'stretch', prompts: ['points'] },
      { pixels: 'unit', resize: 'stretch', prompts: ['points'] },
    ],
    [
      'SAM 2',
      NCHW,
      { ...sam, inputs: [...sam.inputs.slice(0, 5), spec('high_res_feats_0', 1, 32, 256, 256)] },
      {},
      { layout: 'sam2', endsWithPadding: false, resize: 'stretch' },
    ],
    [
      'EfficientSAM',
      { inputs: [spec('batched_images', 'n', 3, 'h', 'w')] },
      {
        ...sam,
        inputs: [
          spec('image_embeddings', 'n', 256, 64, 64),
          spec('batched_point_coords', 1, 'q', 'n', 2),
          spec('batched_point_labels', 1, 'q', 'n'),
          spec('orig_im_size', 2),
        ],
      },
      {},
      { layout: 'efficient_sam', ownPixels: true, resize: 'none', pixels: 'unit' },
    ],
  ] as const)('%s', (_, encoder, decoder, more, wanted) => {
    expect(readLayout(encoder, decoder, parts(more as Partial<Parts>), undefined)).toMatchObject(wanted)
  })

  it('an encoder that scales bytes itself gets bytes, whatever is usual', () => {
    expect(readLayout(NCHW, sam, parts(), 'bytes').pixels).toBe('bytes')
    expect(readLayout(NCHW, sam, parts({ pixels: 'unit' }), 'bytes').pixels).toBe('unit')
  })

  it.each([
    ['a size beside the encoder’s own', NCHW, sam, { size: [512, 512] }, /size is 512 x 512, .* 1024 x 1024/],
    ['a slice in its own size for a fixed one', NCHW, sam, { resize: 'none' }, /fixed to 1024 x 1024/],
    ['a volume', { inputs: [spec('x', 1, 1, 96, 96, 96)] }, sam, {}, /is no picture/],
    ['four channels', { inputs: [spec('x', 1, 4, 256, 256)] }, sam, {}, /is no picture/],
    ['two inputs', { inputs: [spec('x', 1, 3, 256, 256), spec('y', 1)] }, sam, {}, /takes one picture/],
    ['points for a decoder of boxes', NCHW, boxed('boxes', 1, 4), { prompts: ['points'] }, /prompts has 'points'/],
    ['no prompts at all', NCHW, { ...sam, inputs: sam.inputs.slice(0, 1) }, { layout: 'sam' }, /takes no prompts/],
    ['no masks', NCHW, { ...sam, outputs: [spec('iou_predictions', 1, 4)] }, {}, /gives no masks/],
  ] as const)('%s is refused by name', (_, encoder, decoder, more, says) => {
    expect(() => readLayout(encoder, decoder, parts(more as Partial<Parts>), undefined)).toThrow(says)
  })

  it('is plain where the config feeds the points with fields, or says so', () => {
    expect(takesPrompts(sam, parts(), {})).toBe(true)
    expect(takesPrompts(sam, parts(), { point_coords: 'clicks' })).toBe(false)
    expect(takesPrompts(sam, parts({ layout: 'plain' }), {})).toBe(false)
    expect(promptInputs(sam).readers.map(({ name }) => name)).toEqual(['image_embeddings'])
  })
})

describe('a slice in 8 bits', () => {
  const slice = { data: Float32Array.of(-1000, 0, 40, 240, 1000, 0), width: 3, height: 2, channels: 1, isBytes: false }

  it('goes from black to white over a stated window, and says so', () => {
    const { data, note } = toPicture(slice, { level: 40, width: 400 })
    expect([...data]).toEqual([0, 102, 127, 255, 255, 102])
    expect(note).toContain('from -160 (black) to 240 (white): level 40 and width 400')
  })

  it('else over percentiles of the slice, or of its values above 0, which leave 0 black', () => {
    expect(toPicture(slice, undefined).note).toMatch(/percentiles 0.5 and 99.5 of the slice$/)
    const { data, note } = toPicture(slice, { percentiles: [0, 100], foreground: true })
    expect([...data]).toEqual([0, 0, 0, 53, 255, 0])
    expect(note).toMatch(/from 40 \(black\) to 1000 \(white\): percentiles 0 and 100 of its values above 0$/)
  })

  it('of a picture stays as it is, in colour too', () => {
    const bytes = { ...slice, data: Uint8Array.of(1, 2, 3, 4, 5, 6), isBytes: true }
    expect(toPicture(bytes, undefined)).toMatchObject({ note: undefined, data: bytes.data })
    const colour = { data: new Uint8Array(18).fill(7), width: 3, height: 2, channels: 3, isBytes: true }
    expect([...toPicture(colour, { level: 0, width: 1 }).data]).toEqual(new Array(18).fill(7))
  })
})
