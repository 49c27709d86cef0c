/**
 * Chromium hands a texture to its graphics process through a buffer of some 16 MB and cuts a larger upload into rows. Uploads
 * of volumes are cut into slabs that fit instead, whoever makes them. Whether that shortens opening a CT is not settled.
 */

const SLAB_BYTES = 8 * 1024 * 1024

/** Replaces `texSubImage3D` of one context for uploads from memory. */
export function uploadInSlabs(gl: WebGL2RenderingContext): void {
  const whole = gl.texSubImage3D.bind(gl) as (...args: unknown[]) => void
  gl.texSubImage3D = ((...args: unknown[]) => {
    const [target, level, x, y, z, width, height, depth, format, type, source] = args as [
      ...[number, number, number, number, number, number, number, number, number, number],
      ArrayBufferView | null,
    ]
    if (!ArrayBuffer.isView(source) || source.byteLength <= SLAB_BYTES || depth <= 1 || args.length > 11)
      return whole(...args)
    const bytes = source as Uint8Array
    const slice = bytes.length / depth
    const slices = Math.max(1, Math.floor(SLAB_BYTES / (bytes.byteLength / depth)))
    for (let from = 0; from < depth; from += slices) {
      const count = Math.min(slices, depth - from)
      const slab = bytes.subarray(from * slice, (from + count) * slice)
      whole(target, level, x, y, z + from, width, height, count, format, type, slab)
    }
  }) as typeof gl.texSubImage3D
}
