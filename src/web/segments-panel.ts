/** The list of segments: name, colour, volume, visible or not; which one tools work on; what is done to it as a whole. */
import { button, byId, make } from './dom.js'
import { type Box, boxSize } from './geometry.js'
import { fillHoles, keepLargest } from './morphology.js'
import { colorFor, type Segment } from './store.js'
import type { Workbench } from './workbench.js'

export class SegmentsPanel {
  readonly #bench: Workbench
  readonly #list = byId('segments')

  constructor(bench: Workbench) {
    this.#bench = bench
    bench.store.subscribe(() => this.#show())
    bench.on('scan', () => this.#show())
    byId('new-segment').addEventListener('click', () => this.add())
    byId('fill').addEventListener('click', () => this.fill())
    byId('largest').addEventListener('click', () => this.largest())
  }

  add(): void {
    const { store, banner } = this.#bench
    const id = store.freeLabel()
    if (id === undefined) {
      banner.show('There are no more than 255 segments; delete one first.')
      return
    }
    const segment: Segment = { id, name: `Segment ${id}`, color: colorFor(id), visible: true }
    store.change('new segment', { segments: [...store.doc.segments, segment], active: id })
  }

  /** Removes a segment with its voxels and clicks. */
  remove(id: number): void {
    const { store } = this.#bench
    const { segments, active, clicks } = store.doc
    const kept = segments.filter((segment) => segment.id !== id)
    const { [id]: _gone, ...others } = clicks
    const next = active === id ? kept.at(-1)?.id : active
    const box = store.labels.boxOf(id)
    const labels = box && store.labels.read(box).map((label) => (label === id ? 0 : label))
    store.change('delete segment', { segments: kept, active: next, clicks: others }, box && { box, labels: labels! })
  }

  toggle(id: number): void {
    const segment = this.#bench.store.doc.segments.find((one) => one.id === id)
    if (segment) this.#edit(segment, segment.visible ? 'hide' : 'show', { visible: !segment.visible })
  }

  fill(): void {
    this.#reshape('fill holes', (labels, box, id) => fillHoles(labels, boxSize(box), id, 2))
  }

  largest(): void {
    this.#reshape('largest piece', (labels, box, id) => keepLargest(labels, boxSize(box), id))
  }

  #reshape(name: string, work: (labels: Uint8Array, box: Box, id: number) => number): void {
    const { store } = this.#bench
    const { active } = store
    const box = active && store.labels.boxOf(active.id)
    if (!box) return
    const labels = store.labels.read(box)
    const changed = work(labels, box, active.id)
    if (changed > 0) store.change(name, {}, { box, labels })
    byId('message').textContent = `${name}: ${changed} voxels`
  }

  #edit(segment: Segment, name: string, change: Partial<Segment>): void {
    const { store } = this.#bench
    const segments = store.doc.segments.map((one) => (one.id === segment.id ? { ...one, ...change } : one))
    store.change(name, { segments })
  }

  #show(): void {
    const { doc } = this.#bench.store
    byId('no-segments').hidden = doc.segments.length > 0
    const focused = document.activeElement?.id
    this.#list.replaceChildren(...doc.segments.map((segment) => this.#row(segment, segment.id === doc.active)))
    // The list is made anew under the hands of the person who types in it.
    if (focused?.startsWith('segment-')) document.getElementById(focused)?.focus()
    const { active } = this.#bench.store
    for (const id of ['fill', 'largest']) byId<HTMLButtonElement>(id).disabled = active === undefined
    byId<HTMLButtonElement>('clear-clicks').disabled = active === undefined || doc.clicks[active.id] === undefined
  }

  #row(segment: Segment, isActive: boolean): HTMLElement {
    const { id, name, color, visible } = segment
    const chosen = make('input', {
      type: 'radio',
      name: 'active-segment',
      id: `segment-${id}-active`,
      'aria-label': `Work on ${name}`,
    })
    chosen.checked = isActive
    chosen.addEventListener('change', () => this.#bench.store.select(id))
    const colour = make('input', {
      type: 'color',
      id: `segment-${id}-color`,
      value: color,
      'aria-label': `Colour of ${name}`,
    })
    colour.addEventListener('change', () => this.#edit(segment, 'recolour', { color: colour.value }))
    const text = make('input', {
      type: 'text',
      id: `segment-${id}-name`,
      value: name,
      title: name,
      'aria-label': `Name of segment ${id}`,
    })
    text.addEventListener('change', () => this.#edit(segment, 'rename', { name: text.value.trim() || name }))
    const eye = make('input', {
      type: 'checkbox',
      id: `segment-${id}-eye`,
      title: 'Visible',
      'aria-label': `Show ${name}`,
    })
    eye.checked = visible
    eye.addEventListener('change', () => this.toggle(id))
    const gone = button('×', () => this.remove(id), { id: `segment-${id}-delete`, 'aria-label': `Delete ${name}` })
    const row = [chosen, colour, text, eye, gone, make('small', {}, this.#volume(id))]
    return make('li', { class: isActive ? 'segment active' : 'segment', 'data-segment': id }, ...row)
  }

  #volume(id: number): string {
    const { scan, store } = this.#bench
    if (!scan) return ''
    const voxels = store.labels.count(id)
    if (scan.isPicture) return `${voxels} pixels`
    const ml = (voxels * scan.spacing[0] * scan.spacing[1] * scan.spacing[2]) / 1000
    return `${ml < 10 ? ml.toFixed(2) : ml.toFixed(0)} ml · ${voxels} voxels`
  }
}
