/** A model of clicks that is quick and simple. */

/** Label 1 where the scan plus the foreground blob is above 0.5. */
export const clickConfig = (dimensions: 2 | 3) => ({
  version: '4',
  type: 'deepgrow',
  labels: [],
  description: 'for tests',
  pre_transforms: [
    { name: 'LoadImaged', args: { keys: 'image' } },
    { name: 'AsChannelFirstd', args: { keys: 'image' } },
    { name: 'Spacingd', args: { keys: 'image', pixdim: [1, 1], mode: 'bilinear' } },
    { name: 'ScaleIntensityd', args: { keys: 'image', minv: 0, maxv: 0.6 } },
    { name: 'AddGuidanceFromPointsd', args: { ref_image: 'image', guidance: 'guidance', dimensions } },
    ...(dimensions === 2 ? [{ name: 'Fetch2DSliced', args: { keys: 'image', guidance: 'guidance' } }] : []),
    { name: 'AddChanneld', args: { keys: 'image' } },
    { name: 'SpatialCropGuidanced', args: { keys: 'image', guidance: 'guidance', spatial_size: [20, 20] } },
    { name: 'AddGuidanceSignald', args: { image: 'image', guidance: 'guidance' } },
  ],
  inference: { image: 'image', name: 'ONNXInference', args: {} },
  post_transforms: [
    { name: 'AsDiscreted', args: { keys: 'pred', threshold: 0 } },
    { name: 'RestoreLabeld', args: { keys: 'pred', ref_image: 'image', mode: 'nearest' } },
  ],
  writer: { name: 'Writer', args: { image: 'pred' } },
})
