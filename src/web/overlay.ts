/** Marks over the slices: how they lie in the patient, the crosshair and what the tool in hand draws, cut off at each slice's edge. */
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
    return makeSvg(
      'g',
      { 'clip-path': `url(#${id})` },
      clip,
      this.#crosshair(tile),
      ...(tool.marks?.(tile) ?? []),
      ...this.#letters(tile),
    )
  }

  #crosshair(tile: Tile): SVGElement {
    const { left, top, width, height } = tile
    const [x, y] = tile.toScreen(this.#viewer.crosshair)
    const across = `M${left} ${y}H${x - GAP}M${x + GAP} ${y}H${left + width}`
    const down = `M${x} ${top}V${y - GAP}M${x} ${y + GAP}V${top + height}`
    return makeSvg('path', { class: 'crosshair', d: across + down })
  }

  /** Which side of the patient is where, and which slice this is, counted from 1 as people do. */
  #letters({ left, top, width, height, plane, slice, across }: Tile): SVGElement[] {
    const [x, y] = [left + width / 2, top + height / 2]
    const text = (word: string, at: Readonly<Record<string, number>>, anchor: 'start' | 'middle' | 'end') =>
      makeSvg('text', { class: 'letter', 'text-anchor': anchor, ...at }, word)
    const slices = this.#viewer.slicesAcross(across)
    const caption =
      slices > 1
        ? [text(`${width < 330 ? '' : plane.name} ${slice + 1} / ${slices}`, { x: left + 8, y: top + 18 }, 'start')]
        : []
    if (!plane.edges) return caption
    const [leftmost, rightmost, uppermost, lowest] = plane.edges
    return [
      ...caption,
      text(leftmost, { x: left + 8, y: y + 5 }, 'start'),
      text(rightmost, { x: left + width - 8, y: y + 5 }, 'end'),
      text(uppermost, { x, y: top + 18 }, 'middle'),
      text(lowest, { x, y: top + height - 8 }, 'middle'),
    ]
  }
}
