/** The head of a DICOM file around a data set that came over the network (PS3.10 section 7.1). */

const IMPLEMENTATION_CLASS_UID = '2.25.302043790172249692526321623266752743501'

/** Preamble, prefix and file meta information, explicit VR little endian. */
export function part10Head(sopClassUid: string, sopInstanceUid: string, transferSyntaxUid: string): Buffer {
  const version = Buffer.from([2, 0, 1, 0, 0x4f, 0x42, 0, 0, 2, 0, 0, 0, 0, 1])
  const meta = Buffer.concat([
    version,
    uidElement(2, sopClassUid),
    uidElement(3, sopInstanceUid),
    uidElement(0x10, transferSyntaxUid),
    uidElement(0x12, IMPLEMENTATION_CLASS_UID),
  ])
  const length = Buffer.from([2, 0, 0, 0, 0x55, 0x4c, 4, 0, 0, 0, 0, 0])
  length.writeUInt32LE(meta.length, 8)
  return Buffer.concat([Buffer.alloc(128), Buffer.from('DICM', 'latin1'), length, meta])
}

function uidElement(element: number, uid: string): Buffer {
  const value = Buffer.from(uid.length % 2 ? `${uid}\0` : uid, 'latin1')
  const head = Buffer.from([2, 0, element, 0, 0x55, 0x49, 0, 0])
  head.writeUInt16LE(value.length, 6)
  return Buffer.concat([head, value])
}
