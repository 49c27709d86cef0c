/** Saving all segments: as a label map, as Slicer's segmentation, as DICOM SEG, as polygons. */
import { formOf } from './api.js'
import { byId, download } from './dom.js'
import { gzip } from './gzip.js'
import { labelNifti } from './nifti.js'
import type { Opener } from './open.js'
import { stemOf } from './scan.js'
import { segNrrd } from './seg-nrrd.js'
import type { Workbench } from './workbench.js'

export type Format = 'nii' | 'nrrd' | 'dicom' | 'polygons'

export class Saver {
  readonly #bench: Workbench
  readonly #opener: Opener
  readonly #choice = byId<HTMLSelectElement>('save-format')
  readonly #button = byId<HTMLButtonElement>('save')

  constructor(bench: Workbench, opener: Opener) {
    this.#bench = bench
    this.#opener = opener
    this.#button.addEventListener('click', () => void this.save())
    bench.on('scan', () => this.#enable())
    bench.store.subscribe(() => this.#enable())
  }

  async save(format = this.#choice.value as Format): Promise<void> {
    const { scan, store } = this.#bench
    if (!scan || this.#button.disabled) return
    const stem = stemOf(scan.name)
    try {
      switch (format) {
        case 'nii':
          return download(`${stem}_labels.nii.gz`, await gzip(labelNifti(scan.header, store.labels.data)))
        case 'nrrd':
          return download(`${stem}.seg.nrrd`, await segNrrd(store.labels, scan.affine, store.doc.segments))
        case 'dicom':
          return download(`${stem}_seg.dcm`, await this.#dicomSeg())
        case 'polygons':
          return download(`${stem}_polygons.json`, await this.#polygons())
      }
    } catch (error) {
      this.#opener.complain(error)
    }
  }

  async #dicomSeg(): Promise<Blob> {
    const { api, scan, store } = this.#bench
    const form = new FormData()
    form.append('segments', JSON.stringify(store.doc.segments.map(({ id, name }) => ({ label: id, name }))))
    form.append('image', await gzip(labelNifti(scan!.header, store.labels.data)), 'labels.nii.gz')
    return (await api.tool(`v1/dicom_seg?session_id=${encodeURIComponent(scan!.session)}`, form)).blob()
  }

  /** Each segment's polygons as the API gives them: by slice along the third axis, points as [column, row] = [y, x]. */
  async #polygons(): Promise<Blob> {
    const { api, scan, store } = this.#bench
    const volume = await gzip(labelNifti(scan!.header, store.labels.data))
    const segments = []
    for (const { id, name, color } of store.doc.segments) {
      const form = formOf({ label: id })
      form.append('image', volume, 'labels.nii.gz')
      const polygons = store.labels.boxOf(id) ? await (await api.tool('v1/mask2polygon', form)).json() : []
      segments.push({ label: id, name, color, polygons })
    }
    return new Blob([JSON.stringify({ size: scan!.size, points: '[y, x] by slice along z', segments })])
  }

  #enable(): void {
    const { scan, store } = this.#bench
    this.#button.disabled = scan === undefined || store.doc.segments.length === 0
    const dicom = this.#choice.querySelector<HTMLOptionElement>('option[value=dicom]')!
    dicom.disabled = scan?.facts.format !== 'dicom'
    if (dicom.disabled && this.#choice.value === 'dicom') this.#choice.value = 'nii'
  }
}
