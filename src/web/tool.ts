/** What a tool hears of the pointer and of the Enter key. A tool that does not take a gesture leaves it to looking. */
import type { Vec3 } from './geometry.js'
import type { Tile } from './viewer.js'

export interface Hit {
  /** CSS pixels from the corner of the image area. */
  readonly x: number
  readonly y: number
  readonly tile: Tile
  readonly voxel: Vec3
  /** The right button, or Ctrl (also Cmd): the other meaning of a click. */
  readonly alternate: boolean
  readonly shift: boolean
}

export interface Tool {
  /** What the person can do now, in a sentence. */
  hint(): string
  /** True: the tool takes this press, and what follows until the release. */
  down?(hit: Hit): boolean
  /** `hit` is undefined outside the image. */
  drag?(hit: Hit | undefined): void
  up?(): void
  /** The pointer passes over, no button pressed. */
  hover?(hit: Hit | undefined): void
  /** Enter at the crosshair. */
  enter?(hit: Hit): void
  /** Draws the tool's own marks over a tile. */
  marks?(tile: Tile): readonly SVGElement[]
  /** The tool is put away. */
  leave?(): void
}
