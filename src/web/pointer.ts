/** The pointer over the image: to the tool in hand, or to looking around. */
import { byId } from './dom.js'
import type { Hit, Tool } from './tool.js'
import type { Tile } from './viewer.js'
import type { Workbench } from './workbench.js'

type Gesture = 'tool' | 'crosshair' | 'window' | 'pan' | 'rotate'

export class Pointer {
  readonly #bench: Workbench
  readonly #toolInHand: () => Tool
  readonly #stage = byId('stage')
  #gesture: Gesture | undefined
  #tile: Tile | undefined
  #last = { x: 0, y: 0 }
  /** The slice that keys scroll: the one the pointer was in last. */
  across: 0 | 1 | 2 = 2

  constructor(bench: Workbench, toolInHand: () => Tool) {
    this.#bench = bench
    this.#toolInHand = toolInHand
    const stage = this.#stage
    stage.addEventListener('contextmenu', (event) => event.preventDefault())
    stage.addEventListener('pointerdown', (event) => this.#down(event))
    stage.addEventListener('pointermove', (event) => this.#move(event))
    stage.addEventListener('pointerup', () => this.#up())
    stage.addEventListener('pointercancel', () => this.#up())
    stage.addEventListener('pointerleave', () => this.#toolInHand().hover?.(undefined))
    stage.addEventListener('wheel', (event) => this.#wheel(event), { passive: false })
  }

  /** Where a pointer is, as tools hear it. */
  hitOf(event: {
    clientX: number
    clientY: number
    ctrlKey: boolean
    metaKey: boolean
    shiftKey: boolean
    button: number
  }) {
    const { x, y } = this.#place(event)
    const found = this.#bench.viewer.voxelAt(x, y)
    if (!found) return undefined
    const alternate = event.button === 2 || event.ctrlKey || event.metaKey
    return { x, y, ...found, alternate, shift: event.shiftKey } satisfies Hit
  }

  #place({ clientX, clientY }: { clientX: number; clientY: number }) {
    const { left, top } = this.#stage.getBoundingClientRect()
    return { x: clientX - left, y: clientY - top }
  }

  #down(event: PointerEvent): void {
    const { viewer } = this.#bench
    if (!viewer.isOpen || this.#gesture) return
    this.#stage.focus({ preventScroll: true })
    const place = this.#place(event)
    this.#last = place
    this.#tile = viewer.tileAt(place.x, place.y)
    if (this.#tile) this.across = this.#tile.across
    const hit = this.hitOf(event)
    this.#stage.setPointerCapture(event.pointerId)
    if (event.button !== 1 && !event.shiftKey && hit && this.#toolInHand().down?.(hit)) this.#gesture = 'tool'
    else if (viewer.isRenderAt(place.x, place.y)) this.#gesture = 'rotate'
    else if (event.button === 1 || event.shiftKey) this.#gesture = 'pan'
    else if (event.button === 2) this.#gesture = 'window'
    else {
      this.#gesture = 'crosshair'
      if (hit) viewer.crosshair = hit.voxel
    }
  }

  #move(event: PointerEvent): void {
    const { viewer } = this.#bench
    if (!viewer.isOpen) return
    const place = this.#place(event)
    const [dx, dy] = [place.x - this.#last.x, place.y - this.#last.y]
    this.#last = place
    switch (this.#gesture) {
      case undefined:
        this.#toolInHand().hover?.(this.hitOf(event))
        return
      case 'tool':
        this.#toolInHand().drag?.(this.hitOf(event))
        return
      case 'crosshair': {
        const hit = this.hitOf(event)
        if (hit && hit.tile.across === this.#tile?.across) viewer.crosshair = hit.voxel
        return
      }
      case 'rotate':
        viewer.rotate(dx, dy)
        return
      case 'pan':
        if (this.#tile) viewer.pan(this.#tile, dx, dy)
        return
      case 'window': {
        // Across the whole image area: twice the present width of the window.
        const [low, high] = viewer.window
        const width = (high - low) * (1 + (2 * dx) / this.#stage.clientWidth)
        const level = (low + high) / 2 + ((high - low) * 2 * dy) / this.#stage.clientHeight
        viewer.window = [level - width / 2, level + width / 2]
        byId<HTMLSelectElement>('preset').value = 'custom'
        return
      }
    }
  }

  #up(): void {
    if (this.#gesture === 'tool') this.#toolInHand().up?.()
    this.#gesture = undefined
  }

  #wheel(event: WheelEvent): void {
    const { viewer } = this.#bench
    if (!viewer.isOpen) return
    event.preventDefault()
    const place = this.#place(event)
    const tile = viewer.tileAt(place.x, place.y)
    if (event.ctrlKey || viewer.isFlat) viewer.zoomBy(event.deltaY < 0 ? 1.15 : 1 / 1.15, tile && { tile, ...place })
    else if (tile) {
      this.across = tile.across
      viewer.scroll(tile.across, Math.sign(event.deltaY))
    }
  }
}
