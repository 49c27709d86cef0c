/** Opening a scan: files, a folder, a drop, a sample or a session's link; upload, decoded volume, picture on the screen. */
import { inWords, isSessionGone } from './banner.js'
import { byId } from './dom.js'
import { LabelMap } from './label-map.js'
import type { Kept, Memory } from './memory.js'
import { scanOf } from './scan.js'
import { EMPTY } from './store.js'
import type { Workbench } from './workbench.js'

export class Opener {
  readonly #bench: Workbench
  readonly #memory: Memory
  /** What the present session was made of, to upload it again when it has expired. */
  #files: readonly File[] = []

  constructor(bench: Workbench, memory: Memory) {
    this.#bench = bench
    this.#memory = memory
    const files = byId<HTMLInputElement>('files')
    const folder = byId<HTMLInputElement>('folder')
    byId('open-files').addEventListener('click', () => files.click())
    byId('open-folder').addEventListener('click', () => folder.click())
    for (const input of [files, folder])
      input.addEventListener('change', () => {
        const chosen = [...(input.files ?? [])]
        input.value = ''
        void this.open(chosen)
      })
    for (const element of document.querySelectorAll<HTMLElement>('[data-sample]'))
      element.addEventListener('click', () => void this.openSample(element.dataset.sample!))
    this.#acceptDrops()
  }

  /** Uploads files as a new session and shows it, with segments that were made on them before. */
  async open(files: readonly File[], kept?: Kept): Promise<void> {
    const chosen = files.filter(({ name }) => !name.startsWith('.'))
    if (chosen.length === 0) return
    const name = chosen.length === 1 ? chosen[0]!.name : (folderOf(chosen[0]!) ?? 'series')
    await this.#guarded(`Uploading ${name}`, async (signal) => {
      const { api, job } = this.#bench
      const info = await api.createSession(
        chosen,
        (fraction) => {
          job.progress(fraction)
          if (fraction === undefined) job.say(`The server reads ${name}`)
        },
        signal,
      )
      this.#files = chosen
      await this.#show(info.session_id, name, signal, kept)
      this.#bench.note(`opened ${info.image.format} ${info.image.size.join('x')} ${info.image.dtype}`)
    })
  }

  async openSample(sample: string): Promise<void> {
    const response = await fetch(new URL(`samples/${sample}.nii.gz`, import.meta.url))
    await this.open([new File([await response.blob()], `${sample}.nii.gz`)])
  }

  /** The session of a link, with what was done on it in this browser. */
  async restore(session: string): Promise<void> {
    await this.#guarded('Opening the session', (signal) => this.#show(session, undefined, signal))
  }

  /** Uploads the present scan again and keeps the segments. */
  async again(): Promise<void> {
    if (this.#files.length === 0) {
      byId<HTMLInputElement>('files').click()
      return
    }
    const { store } = this.#bench
    await this.open(this.#files, { labels: store.labels, doc: store.doc })
  }

  /** An error, with the way out of it. */
  complain(error: unknown): void {
    this.#bench.note(`error ${error instanceof Error ? error.message : String(error)}`)
    const again = { text: 'Upload again', act: () => void this.again() }
    this.#bench.banner.show(inWords(error), ...(isSessionGone(error) ? [again] : []))
  }

  async #show(session: string, name: string | undefined, signal: AbortSignal, made?: Kept): Promise<void> {
    const { api, job, viewer, store } = this.#bench
    const info = await api.session(session)
    job.say('Fetching the volume')
    const volume = await api.volume(session, (fraction) => job.progress(fraction), signal)
    // What was drawn on the scan before this one.
    await this.#memory.settle()
    const recalled = made ? undefined : await this.#memory.recall(session)
    const { scan, image } = scanOf(info, name ?? recalled?.name ?? 'scan', volume)
    const kept = made ?? recalled
    const fits = kept !== undefined && sameSize(kept.labels.size, scan.size)
    store.reset(fits ? kept.labels : new LabelMap(scan.size), fits ? kept.doc : EMPTY)
    viewer.show(scan, image, store.labels)
    this.#bench.scan = scan
    this.#bench.banner.clear()
    const notes = scan.facts.notes ?? []
    if (notes.length > 0) this.#bench.banner.show(notes.join(' · '))
  }

  async #guarded(text: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await this.#bench.job.run(text, work)
    } catch (error) {
      this.complain(error)
    }
  }

  #acceptDrops(): void {
    const stage = byId('stage')
    document.addEventListener('dragover', (event) => {
      event.preventDefault()
      stage.classList.add('dropping')
    })
    document.addEventListener('dragleave', () => stage.classList.remove('dropping'))
    document.addEventListener('drop', (event) => {
      event.preventDefault()
      stage.classList.remove('dropping')
      // Entries are to be had within this event only.
      const entries = [...(event.dataTransfer?.items ?? [])].flatMap((item) => item.webkitGetAsEntry() ?? [])
      void Promise.all(entries.map(filesOf)).then((files) => this.open(files.flat()))
    })
  }
}

async function filesOf(entry: FileSystemEntry): Promise<File[]> {
  if (entry.isFile)
    return [await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject))]
  const reader = (entry as FileSystemDirectoryEntry).createReader()
  const found: File[] = []
  // A reader gives a hundred entries at a time.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject))
    if (entries.length === 0) return found
    found.push(...(await Promise.all(entries.map(filesOf))).flat())
  }
}

function folderOf({ webkitRelativePath }: File): string | undefined {
  return webkitRelativePath.split('/')[0] || undefined
}

function sameSize(a: readonly number[], b: readonly number[]): boolean {
  return a.every((n, axis) => n === b[axis])
}
