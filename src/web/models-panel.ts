/** The models by what they are for, each with its card; running the automatic ones. */
import { maskOf, RESULT_PARAMS, takeOver } from './answer.js'
import type { Answer, Model, RequestState } from './api.js'
import { button, byId, make } from './dom.js'
import { union } from './geometry.js'
import type { Opener } from './open.js'
import { colorFor, type Segment } from './store.js'
import type { Workbench } from './workbench.js'

interface Group {
  readonly title: string
  readonly types: readonly Model['type'][]
  readonly action: string
  readonly tool?: 'click' | 'extremes'
}

const GROUPS: readonly Group[] = [
  { title: 'Automatic', types: ['segmentation', 'others'], action: 'Run' },
  { title: 'From clicks', types: ['deepgrow', 'pipeline'], action: 'Click', tool: 'click' },
  { title: 'From six extreme points', types: ['annotation'], action: 'Set points', tool: 'extremes' },
  { title: 'What is this?', types: ['classification'], action: 'Ask' },
]

export class ModelsPanel {
  readonly #bench: Workbench
  readonly #opener: Opener
  readonly #panel = byId('models')
  readonly #finding = byId('finding')

  constructor(bench: Workbench, opener: Opener) {
    this.#bench = bench
    this.#opener = opener
    for (const event of ['scan', 'models', 'tool'] as const) bench.on(event, () => this.#show())
    bench.on('scan', () => {
      this.#finding.hidden = true
    })
  }

  #show(): void {
    const groups = GROUPS.flatMap((group) => {
      const models = this.#bench.models.filter(({ type }) => group.types.includes(type))
      if (models.length === 0) return []
      return [make('h3', {}, group.title), ...models.map((model) => this.#card(model, group))]
    })
    this.#panel.replaceChildren(...groups)
  }

  #card(model: Model, { action, tool }: Group): HTMLElement {
    const bench = this.#bench
    const chosen = tool !== undefined && bench.tool === tool && bench.modelFor(tool)?.name === model.name
    const usable = tool === undefined || bench.modelsFor(tool).some(({ name }) => name === model.name)
    const act = () => (tool ? bench.choose(tool, model.name) : void this.run(model))
    const attributes = {
      'data-model': model.name,
      'aria-label': `${action} ${model.name}`,
      'aria-pressed': tool ? String(chosen) : undefined,
      class: chosen ? 'primary' : undefined,
      disabled: !bench.scan || !usable || model.state === 'FAILED',
    }
    return make(
      'div',
      { class: chosen ? 'card chosen' : 'card' },
      make('strong', {}, model.name),
      make('p', {}, model.reason ? `${model.description} ${model.reason}` : model.description),
      button(action, act, attributes),
    )
  }

  async run(model: Model): Promise<void> {
    const { api, job, scan } = this.#bench
    if (!scan) return
    const task = model.type === 'segmentation' ? 'segmentation' : 'inference'
    const params = model.type === 'classification' ? {} : RESULT_PARAMS
    try {
      await job.run(`${model.name} starts`, async (signal) => {
        const follow = (state: RequestState) => job.follow(model.name, state)
        const answer = await this.#bench.asking(model, (image) =>
          api.watch(task, model.name, scan.session, { ...params, ...image }, follow, signal),
        )
        this.#bench.note(
          `${model.name} ${Math.round(answer.elapsed)} ms on ${answer.device} request ${answer.requestId}`,
        )
        if (model.type === 'classification') this.#tell(model, answer)
        else await this.#segment(model, answer)
      })
    } catch (error) {
      this.#opener.complain(error)
    }
    void this.#bench.api.models().then((models) => {
      this.#bench.models = models
    })
  }

  /** One segment for every label that was found. What an earlier run of the model found is replaced. */
  async #segment(model: Model, answer: Answer): Promise<void> {
    const { store } = this.#bench
    const { labels, doc } = store
    const mask = await maskOf(answer, labels.size)
    const earlier = doc.segments.filter((segment) => segment.model === model.name)
    const others = doc.segments.filter((segment) => segment.model !== model.name)
    const taken = new Set(others.map(({ id }) => id))
    const ids = new Map<number, number>()
    const found: Segment[] = []
    for (const { value, name } of mask.labels) {
      let id = 1
      while (taken.has(id)) id++
      if (id > 255) throw new RangeError('there are no more than 255 segments')
      taken.add(id)
      ids.set(value, id)
      found.push({ id, name, color: colorFor(id), visible: true, model: model.name })
    }
    // What the earlier run held in the box is free for the new one.
    const own = new Map([...ids, ...earlier.map(({ id }, i) => [-1 - i, id] as const)])
    const box = earlier.reduce((all, { id }) => union(all, labels.boxOf(id)), mask.box)
    this.#finding.hidden = false
    const notes = (answer.params.notes as string[] | undefined) ?? []
    const said =
      found.length === 0
        ? `${model.name} found nothing in this scan.`
        : `${model.name}: ${found.length} ${found.length === 1 ? 'label' : 'labels'} in ${(answer.elapsed / 1000).toFixed(1)} s.`
    this.#finding.replaceChildren(make('p', {}, [said, ...notes].join(' ')))
    if (!box) return
    const patch = { box, labels: takeOver(labels, box, mask, own) }
    store.change(`run ${model.name}`, { segments: [...others, ...found], active: found[0]?.id }, patch)
  }

  /** A classification: what it is, and how sure the model is of each kind, the surest first. */
  #tell(model: Model, { params }: Answer): void {
    const { prediction, scores, ...others } = params as { prediction?: unknown; scores?: Record<string, number> }
    const sure = Object.entries(scores ?? {}).sort(([, a], [, b]) => b - a)
    this.#finding.hidden = false
    this.#finding.replaceChildren(
      make('h3', {}, model.name),
      ...(prediction === undefined ? [] : [make('p', {}, make('strong', {}, [prediction].flat().join(', ')))]),
      ...sure.map(([name, score]) => make('p', {}, `${name}: ${(100 * score).toFixed(1)} %`)),
      ...Object.entries(others).map(([name, value]) => make('p', {}, `${name}: ${JSON.stringify(value)}`)),
    )
  }
}
