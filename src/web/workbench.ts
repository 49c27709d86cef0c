/** What the parts of the page share. Everything is created once, in main.ts, and handed on. */
import { type Api, ApiError, type Model } from './api.js'
import type { Banner } from './banner.js'
import type { Job } from './job.js'
import type { Scan } from './scan.js'
import type { Store } from './store.js'
import type { Viewer } from './viewer.js'

export type ToolName = 'look' | 'click' | 'extremes' | 'brush' | 'eraser' | 'contour'

interface Events {
  /** Another scan, or none. */
  scan: undefined
  models: undefined
  tool: undefined
}

export class Workbench {
  readonly api: Api
  readonly store: Store
  readonly viewer: Viewer
  readonly banner: Banner
  readonly job: Job
  /** What happened last, for the diagnostics: never what a file is called or holds. */
  readonly history: string[] = []
  #scan: Scan | undefined
  #models: readonly Model[] = []
  #tool: ToolName = 'look'
  readonly #takeOneImage = new Set<string>()
  #chosen: Partial<Record<'click' | 'extremes', string>> = {}
  readonly #listeners: { [E in keyof Events]: Set<() => void> } = {
    scan: new Set(),
    models: new Set(),
    tool: new Set(),
  }

  constructor(parts: Pick<Workbench, 'api' | 'store' | 'viewer' | 'banner' | 'job'>) {
    this.api = parts.api
    this.store = parts.store
    this.viewer = parts.viewer
    this.banner = parts.banner
    this.job = parts.job
  }

  get scan(): Scan | undefined {
    return this.#scan
  }

  set scan(scan: Scan | undefined) {
    this.#scan = scan
    this.#tell('scan')
  }

  get models(): readonly Model[] {
    return this.#models
  }

  set models(models: readonly Model[]) {
    this.#models = models
    this.#tell('models')
  }

  get tool(): ToolName {
    return this.#tool
  }

  set tool(tool: ToolName) {
    this.#tool = tool
    this.#tell('tool')
  }

  /** The models that a tool may use. A picture has no third dimension to click in. */
  modelsFor(tool: 'click' | 'extremes'): Model[] {
    if (tool === 'extremes')
      return this.#scan?.isPicture ? [] : this.#models.filter(({ type }) => type === 'annotation')
    const clicking = this.#models.filter(({ type }) => type === 'deepgrow' || type === 'pipeline')
    return this.viewer.isOpen && this.viewer.isFlat ? clicking.filter(isFlatModel) : clicking
  }

  /** The model that a tool uses: the one that was chosen, else the first. */
  modelFor(tool: 'click' | 'extremes'): Model | undefined {
    const models = this.modelsFor(tool)
    return models.find(({ name }) => name === this.#chosen[tool]) ?? models[0]
  }

  choose(tool: 'click' | 'extremes', model: string): void {
    this.#chosen = { ...this.#chosen, [tool]: model }
    this.tool = tool
  }

  /**
   * Runs `work` with what every request to a model says: where the scan holds several images (time points, echoes) and the
   * model turns out to take one, the one on the screen.
   */
  async asking<T>({ name }: Model, work: (params: object) => Promise<T>): Promise<T> {
    const { viewer } = this
    const params = () => (viewer.frames > 1 && this.#takeOneImage.has(name) ? { image_index: viewer.frame } : {})
    try {
      return await work(params())
    } catch (error) {
      const wantsOne = error instanceof ApiError && error.hint?.includes('image_index')
      if (!wantsOne || viewer.frames < 2 || this.#takeOneImage.has(name)) throw error
      this.#takeOneImage.add(name)
      return work(params())
    }
  }

  on(event: keyof Events, listener: () => void): void {
    this.#listeners[event].add(listener)
  }

  note(line: string): void {
    this.history.push(`${new Date().toISOString()} ${line}`)
    if (this.history.length > 50) this.history.shift()
  }

  #tell(event: keyof Events): void {
    for (const listener of this.#listeners[event]) listener()
  }
}

/** Whether a click in a slice changes that slice alone. */
export function isFlatModel({ deepgrow }: Model): boolean {
  return String(deepgrow).toLowerCase().startsWith('2')
}
