/** nnU-Net's names for the channels of one case: `case_0000.nii.gz`, `case_0001.nii.gz`. */

const CHANNEL = /^(.*)_(\d{4})(\.[^/\\]+)$/

/**
 * The files of one case in the order that their names number them, whichever way round they were sent; files of any other
 * names stay as they came. A field belongs to the place, not to the file: the n-th file goes where the n-th was sent.
 */
export function inChannelOrder<T extends { readonly field: string; readonly filename: string }>(
  files: readonly T[],
): T[] {
  const named = files.map(({ filename }) => CHANNEL.exec(filename))
  const [first] = named
  const numbers = named.map((match) => match?.[2])
  const isCase =
    files.length > 1 &&
    named.every((match) => match !== null && match[1] === first?.[1] && match[3] === first?.[3]) &&
    new Set(numbers).size === files.length
  if (!isCase) return [...files]
  const sorted = files.map((file, i) => ({ file, number: Number(numbers[i]) })).toSorted((a, b) => a.number - b.number)
  return sorted.map(({ file }, i) => ({ ...file, field: files[i]!.field }))
}
