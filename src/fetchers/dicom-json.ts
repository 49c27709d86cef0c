/** Data sets in the DICOM JSON model (PS3.18 annex F), as far as answers of a DICOMweb server are read. */
import { z } from 'zod'

/** `GGGGEEEE` in upper case -> VR and values. */
const Element = z.looseObject({ Value: z.array(z.unknown()).optional() })
const JsonDataSet = z.record(z.string(), z.unknown())
export type JsonDataSet = z.infer<typeof JsonDataSet>

/** One data set or a list of them; undefined where it is neither. */
export function jsonDataSets(value: unknown): readonly JsonDataSet[] | undefined {
  const parsed = z.array(JsonDataSet).safeParse(Array.isArray(value) ? value : [value])
  return parsed.success ? parsed.data : undefined
}

function valuesOf(set: JsonDataSet, tag: string): readonly unknown[] {
  const element = Element.safeParse(set[tag])
  return element.success ? (element.data.Value ?? []) : []
}

/** The first value as text; undefined where there is none. */
export function jsonText(set: JsonDataSet, tag: string): string | undefined {
  const [value] = valuesOf(set, tag)
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined
}

/** The first value as a number; some servers write integer strings as text. */
export function jsonNumber(set: JsonDataSet, tag: string): number | undefined {
  const text = jsonText(set, tag)
  const number = text === undefined || text.trim() === '' ? Number.NaN : Number(text)
  return Number.isFinite(number) ? number : undefined
}

/** The items of a sequence. */
export function jsonItems(set: JsonDataSet, tag: string): readonly JsonDataSet[] {
  return valuesOf(set, tag).flatMap((item) => jsonDataSets(item) ?? [])
}
