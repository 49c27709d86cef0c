/** Every action by key. Keys do nothing while somebody types into a field. */
import { byId, make } from './dom.js'
import type { Vec3 } from './geometry.js'
import type { Pointer } from './pointer.js'
import type { Tool } from './tool.js'
import type { Tile } from './viewer.js'
import type { Workbench } from './workbench.js'

export interface Action {
  /** As KeyboardEvent.key, with `Ctrl+` or `Shift+` before it. */
  readonly keys: readonly string[]
  readonly text: string
  readonly act: () => void
}

export class Keyboard {
  readonly #actions: ReadonlyMap<string, Action>

  constructor(actions: readonly Action[]) {
    this.#actions = new Map(actions.flatMap((action) => action.keys.map((key) => [key, action] as const)))
    document.addEventListener('keydown', (event) => this.#press(event))
    byId('key-list').replaceChildren(
      ...actions.flatMap(({ keys, text }) => [
        make('dt', {}, ...keys.flatMap((key, i) => [i > 0 ? ' ' : '', make('kbd', {}, key === ' ' ? 'Space' : key)])),
        make('dd', {}, text),
      ]),
    )
  }

  #press(event: KeyboardEvent): void {
    if (event.altKey || byId<HTMLDialogElement>('keys').open) return
    const { target } = event
    const modified = event.ctrlKey || event.metaKey
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key
    const shift = event.shiftKey && (event.key.length > 1 || modified) ? 'Shift+' : ''
    const action = this.#actions.get(`${modified ? 'Ctrl+' : ''}${shift}${key}`)
    if (!action || isTyping(target, key, modified)) return
    event.preventDefault()
    action.act()
  }
}

/** Whether a key belongs to the element that has the focus. */
function isTyping(target: EventTarget | null, key: string, modified: boolean): boolean {
  const takesText = target instanceof HTMLInputElement && (target.type === 'text' || target.type === 'number')
  if (!(target instanceof HTMLElement) || modified) return takesText && key !== 's'
  if (target.id === 'stage') return false
  if (takesText) return key !== 'Escape'
  const own =
    key.startsWith('Arrow') ||
    key === 'Enter' ||
    key === ' ' ||
    key.startsWith('Page') ||
    key === 'Home' ||
    key === 'End'
  return target instanceof HTMLSelectElement || (own && target.matches('button, input, a, summary'))
}

/** The keys that move the crosshair in the slice the pointer was in last, through the slices, and that press for the tool. */
export function viewActions(bench: Workbench, pointer: Pointer, toolInHand: () => Tool): Action[] {
  const { viewer } = bench
  const tile = (): Tile | undefined => {
    const tiles = viewer.tiles()
    return tiles.find(({ across }) => across === pointer.across) ?? tiles[0]
  }
  // One voxel on the screen, whichever way the voxels run.
  const step = (dx: number, dy: number) => () => {
    const on = tile()
    if (!on) return
    const [x, y] = on.toScreen(viewer.crosshair)
    const moved = [...viewer.crosshair] as [number, number, number]
    const ahead = on.toVoxel(x + dx, y + dy)
    const axis = dx === 0 ? on.vertical : on.horizontal
    moved[axis] += Math.sign(ahead[axis] - viewer.crosshair[axis])
    viewer.crosshair = moved
  }
  const scroll = (slices: number) => () => {
    const on = tile()
    if (on) viewer.scroll(on.across, slices)
  }
  const press = (alternate: boolean) => () => {
    const on = tile()
    if (!on) return
    const voxel: Vec3 = viewer.crosshair
    const [x, y] = on.toScreen(voxel)
    toolInHand().enter?.({ x, y, tile: on, voxel, alternate, shift: false })
  }
  const window = (dw: number, dl: number) => () => {
    const [low, high] = viewer.window
    const by = (high - low) / 10
    viewer.window = [low + (dl - dw / 2) * by, high + (dl + dw / 2) * by]
    byId<HTMLSelectElement>('preset').value = 'custom'
  }
  const nextPlane = () => {
    const tiles = viewer.tiles()
    const at = tiles.findIndex(({ across }) => across === pointer.across)
    pointer.across = tiles[(at + 1) % tiles.length]?.across ?? 2
    byId('message').textContent = `Keys now move in the ${['first', 'second', 'third'][pointer.across]} axis's slices`
  }
  return [
    { keys: ['ArrowLeft'], text: 'crosshair one voxel to the left', act: step(-1, 0) },
    { keys: ['ArrowRight'], text: 'crosshair one voxel to the right', act: step(1, 0) },
    { keys: ['ArrowUp'], text: 'crosshair one voxel up', act: step(0, -1) },
    { keys: ['ArrowDown'], text: 'crosshair one voxel down', act: step(0, 1) },
    { keys: ['PageUp', 'w'], text: 'next slice', act: scroll(1) },
    { keys: ['PageDown', 'q'], text: 'previous slice', act: scroll(-1) },
    { keys: ['Shift+PageUp'], text: 'ten slices on', act: scroll(10) },
    { keys: ['Shift+PageDown'], text: 'ten slices back', act: scroll(-10) },
    { keys: ['a'], text: 'keys move in the next plane', act: nextPlane },
    { keys: ['Enter'], text: 'press with the tool at the crosshair', act: press(false) },
    { keys: ['Ctrl+Enter'], text: 'press with the right button at the crosshair', act: press(true) },
    { keys: ['+', '='], text: 'zoom in', act: () => viewer.zoomBy(1.15) },
    { keys: ['-'], text: 'zoom out', act: () => viewer.zoomBy(1 / 1.15) },
    { keys: ['0'], text: 'fit the image', act: () => viewer.fit() },
    { keys: ['m'], text: 'crosshair into the middle', act: () => viewer.centre() },
    { keys: ['.'], text: 'brighter', act: window(0, -1) },
    { keys: [','], text: 'darker', act: window(0, 1) },
    { keys: [';'], text: 'more contrast', act: window(-1, 0) },
    { keys: [':'], text: 'less contrast', act: window(1, 0) },
  ]
}
