/**
 * The page at / in headless Chromium with a renderer in software: how long a click's mask takes to the screen beyond the API's
 * own time, what a CT of 512x512x300 takes in memory, and how fast it scrolls. `npm run build && npx tsx bench/page.ts`
 */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openBrowser } from '../test/helpers/browser.js'
import { niftiBytes } from '../test/helpers/nifti-bytes.js'
import { ServerProcess } from '../test/helpers/server-process.js'
import { Workbench } from '../test/helpers/workbench.js'

const CLICKS = 8
const SLICES = 60
const CT_SIZE = [512, 512, 300] as const

const folder = await mkdtemp(join(tmpdir(), 'aidant-bench-page-'))
const server = await ServerProcess.start(join(folder, 'workspace'))
const browser = await openBrowser({ width: 1280, height: 800 })
try {
  const page = await browser.newPage()
  const bench = await Workbench.open(page, server.url)

  await bench.opening(() => page.click('[data-sample=abdomen]'))
  await bench.key('2')
  for (const model of ['deepgrow_2d', 'deepgrow_3d']) {
    await page.click(`[data-model=${model}]`)
    const beyond: number[] = []
    for (let i = 0; i <= CLICKS; i++) {
      const { width, height } = (await page.locator('#stage').boundingBox())!
      await bench.clickAt(width * (0.3 + 0.01 * i), height * 0.62)
      await page.waitForTimeout(200)
      const [, shown, asked] = /in (\d+) ms, of which the server (\d+) ms/.exec((await page.textContent('#message'))!)!
      // The first click loads the model.
      if (i > 0) beyond.push(Number(shown) - Number(asked))
    }
    beyond.sort((a, b) => a - b)
    say(`${model}: click to screen beyond the API's time: median ${beyond[CLICKS >> 1]} ms, most ${beyond.at(-1)} ms`)
  }

  const ct = join(folder, 'ct.nii')
  await writeFile(ct, phantomCt())
  await bench.openFiles(ct)
  await page.waitForTimeout(3000)
  say(`CT of ${CT_SIZE.join('x')}: ${(await memoryOf(browser.folder)).toFixed(2)} GB in all processes of the browser`)
  await bench.key('2')
  const debug = await page.context().newCDPSession(page)
  await debug.send('Performance.enable', { timeDomain: 'threadTicks' })
  const taskSeconds = async () =>
    (await debug.send('Performance.getMetrics')).metrics.find(({ name }) => name === 'TaskDuration')!.value
  const before = await taskSeconds()
  const seconds = await page.evaluate(async (slices) => {
    const stage = document.getElementById('stage')!
    const context = (document.getElementById('slices') as HTMLCanvasElement).getContext('2d')!
    const { left, top, width, height } = stage.getBoundingClientRect()
    const started = performance.now()
    for (let i = 0; i < slices; i++) {
      const place = { clientX: left + width / 2, clientY: top + height / 2, deltaY: 1, bubbles: true, cancelable: true }
      stage.dispatchEvent(new WheelEvent('wheel', place))
      await new Promise((resolve) => requestAnimationFrame(resolve))
      // Drawn for certain.
      context.getImageData(0, 0, 1, 1)
    }
    return (performance.now() - started) / 1000
  }, SLICES)
  const busy = ((await taskSeconds()) - before) / SLICES
  say(
    `scrolls at ${(SLICES / seconds).toFixed(1)} slices a second; ${(1000 * busy).toFixed(1)} ms of the page's own thread a slice`,
  )
  await bench.key('c')
  const { width, height } = (await page.locator('#stage').boundingBox())!
  for (let i = 0; i < 4; i++) await bench.clickAt(width * (0.45 + 0.02 * i), height * 0.5)
  await page.waitForTimeout(500)
  say(`a click in it: ${await page.textContent('#message')}`)
  say(`after clicks: ${(await memoryOf(browser.folder)).toFixed(2)} GB`)
} finally {
  await browser[Symbol.asyncDispose]()
  await server.end('SIGTERM')
  await rm(folder, { recursive: true, force: true })
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** A round body with noise, int16. */
function phantomCt(): Uint8Array {
  const [nx, ny, nz] = CT_SIZE
  const voxels = new Int16Array(nx * ny * nz)
  for (let z = 0, i = 0; z < nz; z++)
    for (let y = 0; y < ny; y++)
      for (let x = 0; x < nx; x++, i++) {
        const r = Math.hypot(x - nx / 2, y - ny / 2)
        voxels[i] = r > 200 ? -1000 : r > 80 ? 40 + ((i * 7919) % 31) : 120 + ((i * 7919) % 31)
      }
  return niftiBytes({
    dim: [3, nx, ny, nz],
    pixdim: [1, 0.7, 0.7, 1],
    sformCode: 1,
    srow: [-0.7, 0, 0, 180, 0, 0.7, 0, -180, 0, 0, 1, -150],
    voxels: new Uint8Array(voxels.buffer),
  })
}

/** GB of memory that the processes under the one of this profile hold, shared pages divided among their holders. */
async function memoryOf(profile: string): Promise<number> {
  const parents = new Map<number, number>()
  let root = 0
  for (const name of await readdir('/proc')) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const [stat, command] = await Promise.all(
      ['stat', 'cmdline'].map((file) => readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => '')),
    )
    parents.set(pid, Number(stat!.slice(stat!.lastIndexOf(')') + 4).split(' ')[0]))
    if (command!.includes(`--user-data-dir=${profile}`) && !command!.includes('--type=')) root = pid
  }
  const isUnder = (pid: number): boolean => pid === root || (pid > 1 && isUnder(parents.get(pid) ?? 0))
  let kilobytes = 0
  for (const pid of parents.keys())
    if (isUnder(pid)) {
      const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8').catch(() => '')
      kilobytes += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0)
    }
  return kilobytes / 1e6
}
