/** The part of dcmjs that this project uses; the package brings no types of its own. */
declare module 'dcmjs' {
  type Elements = Record<string, unknown>
  class DicomDict {
    constructor(meta: Elements)
    dict: Elements
    write(options?: { allowInvalidVRLength?: boolean }): ArrayBuffer
  }
  const dcmjs: {
    readonly data: {
      readonly DicomDict: typeof DicomDict
      readonly DicomMessage: {
        readFile(bytes: ArrayBuffer, options: { untilTag: string; includeUntilTagValue: boolean }): { dict: Elements }
      }
      readonly DicomMetaDictionary: {
        naturalizeDataset(dict: Elements): Elements
        denaturalizeDataset(dataset: Elements): Elements
      }
    }
    readonly log: { setLevel(level: string): void }
  }
  export default dcmjs
}
