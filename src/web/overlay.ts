/** Marks over the slices: the crosshair and what the tool in hand draws, cut off at the edge of each slice. */
import { makeSvg } from './dom.js'
import type { Tool } from './tool.js'
import type { Tile, Viewer } from './viewer.js'

/** Pixels around the crosshair's voxel that are left free. */
const GAP = 9

export class Overlay {
  readonly #svg = document.getElementById('overlay') as unknown as SVGSVGElement
  readonly #viewer: Viewer
  readonly #toolInHand: () => Tool

  constructor(viewer: Viewer, toolInHand: () => Tool) {
    this.#viewer = viewer
    this.#toolInHand = toolInHand
  }

  draw(): void {
    const tool = this.#toolInHand()
    this.#svg.replaceChildren(...this.#viewer.tiles().map((tile, i) => this.#group(tool, tile, i)))
  }

  #group(tool: Tool, tile: Tile, index: number): SVGElement {
    const { left, top, width, height } = tile
    const id = `tile-${index}`
    const clip = makeSvg('clipPath', { id }, makeSvg('rect', { x: left, y: top, width, height }))
    return makeSvg('g', { 'clip-path': `url(#${id})` }, clip, this.#crosshair(tile), ...(tool.marks?.(tile) ?? []))
  }

  #crosshair(tile: Tile): SVGElement {
    const { left, top, width, height } = tile
    const [x, y] = tile.toScreen(this.#viewer.crosshair)
    const across = `M${left} ${y}H${x - GAP}M${x + GAP} ${y}H${left + width}`
    const down = `M${x} ${top}V${y - GAP}M${x} ${y + GAP}V${top + height}`
    return makeSvg('path', { class: 'crosshair', d: across + down })
  }
}
