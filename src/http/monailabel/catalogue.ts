/** What a client can name as an image: what the datastore keeps, then the series of the DICOMweb service. */
import type { Datastore, LabelVersion, StoredItem } from '../../datastore/datastore.js'
import { FINAL } from '../../datastore/strategies.js'
import type { Listing, SeriesFacts } from '../../fetchers/dicomweb-server.js'
import { imageSuffix, isSeries, SERIES_SUFFIX, suffixOf } from './file-name.js'

/** A label of the datastore; a segmentation of the service, or undefined for one that was stored there just now. */
export type ListedLabel = { readonly kept: LabelVersion } | { readonly segmentation: SeriesFacts | undefined }

export interface Listed {
  readonly id: string
  /** Where it is kept here. */
  readonly item: StoredItem | undefined
  /** Where the service lists it. */
  readonly series: SeriesFacts | undefined
  /** By tag; a segmentation of the service counts as final where nothing final is kept here. */
  readonly labels: ReadonlyMap<string, ListedLabel>
}

/** In order of arrival, then as the service orders them. */
export function catalogue(datastore: Pick<Datastore, 'list'> | undefined, listing: Listing | undefined): Listed[] {
  const series = new Map(listing?.images.map((one) => [one.seriesUid, one]))
  const kept = datastore?.list() ?? []
  const ids = new Set(kept.map(({ id }) => id))
  const labelsOf = (id: string, item: StoredItem | undefined) => {
    const labels = new Map<string, ListedLabel>([...(item?.labels ?? [])].map(([tag, label]) => [tag, { kept: label }]))
    if (listing?.labels.has(id) && !labels.has(FINAL)) labels.set(FINAL, { segmentation: listing.labels.get(id) })
    return labels
  }
  return [
    ...kept.map((item) => ({ id: item.id, item, series: series.get(item.id), labels: labelsOf(item.id, item) })),
    ...[...series.values()]
      .filter(({ seriesUid }) => !ids.has(seriesUid))
      .map((one) => ({ id: one.seriesUid, item: undefined, series: one, labels: labelsOf(one.seriesUid, undefined) })),
  ]
}

export function countsOf(listed: readonly Listed[]): { readonly total: number; readonly completed: number } {
  return { total: listed.length, completed: listed.filter(({ labels }) => labels.has(FINAL)).length }
}

/** What a client is told of a stored image. */
export function itemInfo({ id, image, versions }: StoredItem): Record<string, unknown> {
  const { createdAt, source, image: facts } = image
  const checksum = isSeries(facts) ? {} : { checksum: `SHA256:${source.sha256}` }
  return { ...facts, name: id, ts: Math.floor(createdAt / 1000), ...checksum, versions }
}

/** What a client is told of a series, in the words that OHIF reads. */
export function seriesInfo(series: SeriesFacts): Record<string, unknown> {
  const { modality, patientId, studyDate, studyTime, studyUid, seriesUid, description, instances, retrieveUrl } = series
  return {
    Modality: modality,
    PatientID: patientId,
    StudyDate: studyDate,
    StudyTime: studyTime,
    SeriesDescription: description,
    NumberOfSeriesRelatedInstances: instances,
    StudyInstanceUID: studyUid,
    SeriesInstanceUID: seriesUid,
    RetrieveURL: retrieveUrl,
  }
}

/** As `GET /datastore/?output=all` lists them. */
export function objectsOf(listed: readonly Listed[]): Record<string, unknown> {
  return Object.fromEntries(
    listed.map(({ id, item, series, labels }) => {
      const image = item
        ? { ext: imageSuffix(item.image), info: itemInfo(item) }
        : { ext: SERIES_SUFFIX, info: { name: id, ...seriesInfo(series!) } }
      return [id, { image, labels: Object.fromEntries([...labels].map(([tag, label]) => [tag, labelObject(label)])) }]
    }),
  )
}

function labelObject(label: ListedLabel): unknown {
  if ('kept' in label) {
    const { file, createdAt, info } = label.kept
    return { ext: suffixOf(file), info: { ts: Math.floor(createdAt / 1000), ...info } }
  }
  return { ext: '.dcm', info: label.segmentation ? seriesInfo(label.segmentation) : {} }
}
