/** Puts the page together. Everything is created here, once. */
import { Api } from './api.js'
import { Banner, inWords } from './banner.js'
import { BrushTool, type NibChoice } from './brush-tool.js'
import { ClickTool } from './click-tool.js'
import { ContourTool } from './contour-tool.js'
import { diagnostics } from './diagnostics.js'
import { byId, make } from './dom.js'
import { ExtremesTool } from './extremes-tool.js'
import { toWorld, type Vec3 } from './geometry.js'
import { Job } from './job.js'
import { type Action, Keyboard, viewActions } from './keyboard.js'
import { lookTool } from './look-tool.js'
import { Memory } from './memory.js'
import { ModelsPanel } from './models-panel.js'
import { Opener } from './open.js'
import { Overlay } from './overlay.js'
import { Pointer } from './pointer.js'
import { Saver } from './save.js'
import { SegmentsPanel } from './segments-panel.js'
import { Store } from './store.js'
import type { Tool } from './tool.js'
import { type Layout, Viewer } from './viewer.js'
import { type ToolName, Workbench } from './workbench.js'

const store = new Store()
const viewer = new Viewer(byId<HTMLCanvasElement>('slices'), byId('render'))
const banner = new Banner()
const bench = new Workbench({ api: new Api(new URL('.', location.href)), store, viewer, banner, job: new Job() })
const memory = new Memory()
const opener = new Opener(bench, memory)
const say = (text: string) => {
  byId('message').textContent = text
}

const nib: NibChoice = { radius: 6, ball: false }
const clicks = new ClickTool(bench, opener, say)
const tools: Readonly<Record<ToolName, Tool>> = {
  look: lookTool,
  click: clicks,
  extremes: new ExtremesTool(bench, opener),
  brush: new BrushTool(bench, nib, false),
  eraser: new BrushTool(bench, nib, true),
  contour: new ContourTool(bench, opener),
}
const toolInHand = () => tools[bench.tool]
const overlay = new Overlay(viewer, toolInHand)
const pointer = new Pointer(bench, toolInHand)
const segments = new SegmentsPanel(bench)
const saver = new Saver(bench, opener)
new ModelsPanel(bench, opener)

/** A row of choices, one of which holds. */
function choices<T extends string>(
  id: string,
  names: readonly (readonly [T, string, string])[],
  chosen: (name: T) => void,
) {
  const inputs = names.map(([value, text, key]) => {
    const input = make('input', { type: 'radio', name: id, value, 'aria-keyshortcuts': key })
    input.addEventListener('change', () => chosen(value))
    byId(id).append(make('label', { title: `${text} (${key})` }, input, make('span', {}, text)))
    return input
  })
  return (value: T) => {
    for (const input of inputs) input.checked = input.value === value
  }
}

const TOOLS: readonly (readonly [ToolName, string, string])[] = [
  ['look', 'Look', 'L'],
  ['click', 'Click', 'C'],
  ['extremes', 'Extremes', 'X'],
  ['brush', 'Brush', 'B'],
  ['eraser', 'Eraser', 'E'],
  ['contour', 'Contour', 'P'],
]
const LAYOUTS: readonly (readonly [Layout, string, string])[] = [
  ['multi', 'All', '1'],
  ['axial', 'Axial', '2'],
  ['coronal', 'Coronal', '3'],
  ['sagittal', 'Sagittal', '4'],
  ['render', '3-D', '5'],
]
const LINK_SAID =
  'The link is in the clipboard. It opens the scan anywhere, as long as the server keeps it; what you drew is in this browser alone: save it to pass it on.'
let inHand = bench.tool
const takeTool = (name: ToolName) => {
  bench.tool = name
}
const showTool = choices('tools', TOOLS, takeTool)
const setLayout = (layout: Layout) => {
  viewer.layout = layout
  showLayout(viewer.layout)
  showHint()
}
const showLayout = choices('layouts', LAYOUTS, setLayout)

function showHint(): void {
  const hint = viewer.layout === 'render' ? 'Drag to turn. Work is done in the slices.' : toolInHand().hint()
  byId('hint').textContent = bench.scan ? hint : ''
}

bench.on('tool', () => {
  if (inHand !== bench.tool) tools[inHand].leave?.()
  inHand = bench.tool
  showTool(bench.tool)
  byId('nib').hidden = bench.tool !== 'brush' && bench.tool !== 'eraser'
  showHint()
  overlay.draw()
})

bench.on('scan', () => {
  const { scan } = bench
  byId('welcome').hidden = scan !== undefined
  byId<HTMLButtonElement>('copy-link').disabled = scan === undefined
  say('')
  if (!scan) return
  history.replaceState(undefined, '', `#session=${scan.session}`)
  const { size, spacing, facts, isPicture } = scan
  const grid = isPicture
    ? `${size[0]} × ${size[1]} pixels`
    : `${size.join(' × ')} voxels of ${spacing.map((mm) => +mm.toFixed(3)).join(' × ')} mm`
  byId('scan-info').textContent = `${scan.name} · ${facts.format} · ${grid}`
  const radius = byId<HTMLInputElement>('radius')
  const finest = Math.min(...spacing.slice(0, isPicture ? 2 : 3))
  radius.step = String(finest / 2)
  radius.min = String(finest / 2)
  radius.max = String(finest * 40)
  setRadius(finest * 6)
  byId<HTMLSelectElement>('preset').value = ''
  showLayout(viewer.layout)
  for (const input of document.querySelectorAll<HTMLInputElement>('#layouts input')) {
    const none = input.value === 'render' ? viewer.noRender : undefined
    input.disabled = (viewer.isFlat && input.value !== viewer.layout) || none !== undefined
    if (none) input.parentElement!.title = none
  }
  byId('layouts').hidden = isPicture
  byId('scan-opacity-row').hidden = viewer.isFlat
  const { frames } = viewer
  byId('frames').hidden = frames < 2
  byId<HTMLInputElement>('frame').max = String(frames)
  byId('frame-count').textContent = `of ${frames}`
  setFrame(0)
  showState()
})

/** What follows from the segments and their history. */
function showState(): void {
  viewer.colors = store.doc.segments
  byId<HTMLButtonElement>('undo').disabled = store.undoable === undefined
  byId<HTMLButtonElement>('redo').disabled = store.redoable === undefined
  byId('undo').title = `Ctrl+Z${store.undoable ? `: ${store.undoable}` : ''}`
  byId('redo').title = `Ctrl+Y${store.redoable ? `: ${store.redoable}` : ''}`
  showHint()
}

store.subscribe((box) => {
  if (!bench.scan) return
  if (box) viewer.updateLabels(store.labels, box)
  showState()
  void memory.keep(bench.scan, store)
})

viewer.onDraw = () => {
  overlay.draw()
  if (bench.scan) byId('status').textContent = placeOf(viewer.crosshair)
}

/** The crosshair in words: index, millimetres, value, segment. */
function placeOf(voxel: Vec3): string {
  const { scan } = bench
  if (!scan) return ''
  const value = viewer.valueAt(voxel).map((v) => (Number.isInteger(v) ? String(v) : v.toPrecision(5)))
  const label = store.labels.at(voxel)
  const segment = store.doc.segments.find(({ id }) => id === label)
  const parts = [`[${(scan.isPicture ? voxel.slice(0, 2) : voxel).join(', ')}]`, `value ${value.join(' ')}`]
  if (!scan.isPicture)
    parts.splice(
      1,
      0,
      `${toWorld(scan.affine, voxel)
        .map((mm, i) => `${'RAS'[i]} ${mm.toFixed(1)}`)
        .join(' ')} mm`,
    )
  if (segment) parts.push(segment.name)
  return parts.join(' · ')
}

function setRadius(mm: number): void {
  const input = byId<HTMLInputElement>('radius')
  input.value = String(mm)
  nib.radius = Number(input.value)
  byId('radius-text').textContent = bench.scan?.isPicture ? `${nib.radius} px` : `${nib.radius.toFixed(1)} mm`
  overlay.draw()
}

/** Which of several images on one grid, time points or echoes, is shown and sent to models. */
function setFrame(frame: number): void {
  viewer.frame = frame
  byId<HTMLInputElement>('frame').value = String(viewer.frame + 1)
}

const undo = () => {
  const name = store.undo()
  if (name) say(`Undone: ${name}`)
}
const redo = () => {
  const name = store.redo()
  if (name) say(`Done again: ${name}`)
}
const copy = async (text: string, said: string) => {
  await navigator.clipboard.writeText(text)
  say(said)
}
const copyLink = () => void copy(location.href, LINK_SAID)
const copyDiagnostics = async () => copy(await diagnostics(bench), 'The diagnostics are in the clipboard.')
const onActive = (act: (id: number) => void) => () => {
  const { active } = store
  if (active) act(active.id)
}
const nudgeRadius = (steps: number) => () =>
  setRadius(nib.radius + steps * Number(byId<HTMLInputElement>('radius').step))
const toggle = (id: string) => () => byId<HTMLInputElement>(id).click()
const showKeys = () => byId<HTMLDialogElement>('keys').showModal()

byId('undo').addEventListener('click', undo)
byId('redo').addEventListener('click', redo)
byId('copy-link').addEventListener('click', copyLink)
byId('copy-diagnostics').addEventListener('click', () => void copyDiagnostics())
byId('show-keys').addEventListener('click', showKeys)
byId('clear-clicks').addEventListener('click', () => clicks.clear())
byId<HTMLInputElement>('radius').addEventListener('input', ({ target }) =>
  setRadius(Number((target as HTMLInputElement).value)),
)
byId<HTMLInputElement>('ball').addEventListener('change', ({ target }) => {
  nib.ball = (target as HTMLInputElement).checked
})
byId<HTMLInputElement>('opacity').addEventListener('input', ({ target }) => {
  viewer.opacity = Number((target as HTMLInputElement).value)
})
byId<HTMLInputElement>('outline').addEventListener('change', ({ target }) => {
  viewer.outline = (target as HTMLInputElement).checked
})
byId<HTMLInputElement>('smooth').addEventListener('change', ({ target }) => {
  viewer.smooth = (target as HTMLInputElement).checked
})
byId<HTMLInputElement>('scan-opacity').addEventListener('input', ({ target }) => {
  viewer.scanOpacity = Number((target as HTMLInputElement).value)
})
byId<HTMLInputElement>('frame').addEventListener('change', ({ target }) =>
  setFrame(Number((target as HTMLInputElement).value) - 1),
)
byId<HTMLSelectElement>('preset').addEventListener('change', ({ target }) => {
  const { value } = target as HTMLSelectElement
  if (value === '') viewer.resetWindow()
  else viewer.window = value.split(',').map(Number) as [number, number]
})

const actions: readonly Action[] = [
  { keys: ['Ctrl+o'], text: 'open a scan', act: () => byId('open-files').click() },
  ...TOOLS.map(([name, text, key]) => ({
    keys: [key.toLowerCase()],
    text: `tool: ${text}`,
    act: () => takeTool(name),
  })),
  ...LAYOUTS.map(([name, text, key]) => ({ keys: [key], text: `view: ${text}`, act: () => setLayout(name) })),
  ...viewActions(bench, pointer, toolInHand),
  { keys: ['t'], text: 'next image of several (time points, echoes)', act: () => setFrame(viewer.frame + 1) },
  { keys: ['r'], text: 'previous image of several', act: () => setFrame(viewer.frame - 1) },
  { keys: ['['], text: 'smaller brush', act: nudgeRadius(-1) },
  { keys: [']'], text: 'larger brush', act: nudgeRadius(1) },
  { keys: ['d'], text: 'brush: disc or ball', act: toggle('ball') },
  { keys: ['n'], text: 'new segment', act: () => segments.add() },
  { keys: ['h'], text: 'hide or show the segment', act: onActive((id) => segments.toggle(id)) },
  { keys: ['Delete'], text: 'delete the segment', act: onActive((id) => segments.remove(id)) },
  { keys: ['f'], text: 'fill holes', act: () => segments.fill() },
  { keys: ['k'], text: 'keep the largest piece', act: () => segments.largest() },
  { keys: ['o'], text: 'outline', act: toggle('outline') },
  { keys: ['Ctrl+z'], text: 'undo', act: undo },
  { keys: ['Ctrl+y', 'Ctrl+Shift+z'], text: 'redo', act: redo },
  { keys: ['Ctrl+s'], text: 'save', act: () => void saver.save() },
  { keys: ['Escape'], text: 'cancel what is under way', act: () => bench.job.cancel() },
  { keys: ['?'], text: 'these keys', act: showKeys },
]
new Keyboard(actions)

async function loadModels(): Promise<void> {
  try {
    bench.models = await bench.api.models()
  } catch (error) {
    banner.show(inWords(error), { text: 'Try again', act: () => void loadModels() })
  }
}

async function start(): Promise<void> {
  bench.tool = 'look'
  await loadModels()
  if (viewer.noRender) banner.show(viewer.noRender)
  const session = /^#session=([\w-]+)$/.exec(location.hash)?.[1]
  if (session) await opener.restore(session)
}

start().catch((error) => banner.show(inWords(error)))
