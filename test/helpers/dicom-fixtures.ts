/** The DICOM series of test/fixtures, unpacked into a folder. test/golden/make_dicom_golden.py and make_dicom_relatives.py say what they are. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { unzipTo } from '../../src/util/unzip.js'

export interface DicomFixtures {
  /** Paths of the files whose name in the archive begins so: 'sagittal/' gives that series. */
  named(prefix: string): string[]
}

export async function dicomFixtures(
  part: 'encodings' | 'geometry' | 'relatives',
  root: string,
): Promise<DicomFixtures> {
  const folder = join(root, part)
  await mkdir(folder, { recursive: true })
  const zip = join(root, `${part}.zip`)
  await writeFile(zip, gunzipSync(await readFile(new URL(`../fixtures/dicom-${part}.zip.gz`, import.meta.url))))
  const files = await unzipTo(zip, folder, { maxEntries: 1000, maxBytes: 2 ** 26 })
  return { named: (prefix) => files.filter((file) => file.entryName.startsWith(prefix)).map((file) => file.path) }
}
