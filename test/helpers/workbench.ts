/** The page at / in a browser, driven as a person drives it: files, keys, the pointer, and what is to be seen on the screen. */
import { readFile } from 'node:fs/promises'
import type { Page } from 'playwright-core'
import sharp from 'sharp'

export interface NamedFile {
  readonly name: string
  readonly mimeType: string
  readonly buffer: Buffer
}

export class Workbench {
  readonly page: Page

  constructor(page: Page) {
    this.page = page
  }

  static async open(page: Page, url: string): Promise<Workbench> {
    await page.goto(url)
    const bench = new Workbench(page)
    await page.locator('#models .card').first().waitFor()
    return bench
  }

  /** Opens files by the file input, and waits until the scan is on the screen. */
  async openFiles(files: string | readonly string[] | NamedFile): Promise<void> {
    await this.opening(() => this.page.setInputFiles('#files', files as string))
  }

  /** Does what opens a scan, and waits until another than was there before it is on the screen. */
  async opening(act: () => Promise<unknown>): Promise<void> {
    const before = new URL(this.page.url()).hash
    await act()
    await this.page.waitForURL((url) => /#session=./.test(url.hash) && url.hash !== before, { timeout: 90_000 })
    await this.settled()
    await this.page.locator('#welcome').waitFor({ state: 'hidden' })
  }

  /** Waits until nothing is under way. */
  async settled(): Promise<void> {
    await this.page.locator('#job').waitFor({ state: 'hidden', timeout: 240_000 })
  }

  /** Presses a key with the focus on the image. */
  async key(key: string): Promise<void> {
    await this.page.locator('#stage').press(key)
  }

  /** Clicks at a point of the image area and waits for the mask that answers; gives the params that were sent. */
  async clickAt(x: number, y: number, button: 'left' | 'right' = 'left'): Promise<ClickParams> {
    const answered = this.page.waitForResponse((response) => response.url().includes('/v1/deepgrow'), {
      timeout: 120_000,
    })
    await this.page.locator('#stage').click({ position: { x, y }, button })
    const request = (await answered).request()
    await this.page.waitForFunction(() => document.querySelector('.click.waiting') === null)
    return JSON.parse(/name="params"\r\n\r\n(.*)\r\n/.exec(request.postDataBuffer()!.toString('latin1'))![1]!)
  }

  /** The index that the line below the image says the crosshair is at. */
  async crosshair(): Promise<number[]> {
    return JSON.parse(/^\[[^\]]*\]/.exec((await this.page.textContent('#status'))!)![0])
  }

  /** What a format of the save menu gives. */
  async saved(format: string): Promise<{ name: string; path: string; bytes: Buffer }> {
    await this.page.selectOption('#save-format', format)
    const waiting = this.page.waitForEvent('download')
    await this.page.click('#save')
    const download = await waiting
    const path = await download.path()
    return { name: download.suggestedFilename(), path, bytes: await readFile(path) }
  }

  /** The centre of the one white spot on the screen, in CSS pixels of the image area; waits until there is one. */
  async whiteSpot(): Promise<[number, number]> {
    for (let tries = 0; tries < 30; tries++) {
      const spots = await this.#whiteSpots()
      if (spots.length === 1) return spots[0]!
    }
    throw new Error('there is not one white spot on the screen')
  }

  async #whiteSpots(): Promise<[number, number][]> {
    const { data, info } = await sharp(await this.page.locator('#stage').screenshot({ scale: 'css' }))
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true })
    const { width, height, channels } = info
    const isWhite = (i: number) =>
      data[channels * i]! > 235 && data[channels * i + 1]! > 235 && data[channels * i + 2]! > 235
    const seen = new Uint8Array(width * height)
    const spots: [number, number][] = []
    for (let seed = 0; seed < seen.length; seed++) {
      if (seen[seed] === 1 || !isWhite(seed)) continue
      let [count, sumX, sumY, left, right, top, bottom] = [0, 0, 0, width, 0, height, 0]
      const stack = [seed]
      seen[seed] = 1
      for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
        count++
        const [x, y] = [i % width, Math.floor(i / width)]
        sumX += x
        sumY += y
        ;[left, right] = [Math.min(left, x), Math.max(right, x)]
        ;[top, bottom] = [Math.min(top, y), Math.max(bottom, y)]
        for (const j of [i - 1, i + 1, i - width, i + width])
          if (j >= 0 && j < seen.length && seen[j] === 0 && isWhite(j)) {
            seen[j] = 1
            stack.push(j)
          }
      }
      // Thinner ones are letters, and the edge of the image area.
      if (right - left >= 8 && bottom - top >= 8) spots.push([sumX / count, sumY / count])
    }
    return spots
  }
}

export interface ClickParams {
  readonly foreground: readonly (readonly [number, number, number])[]
  readonly background: readonly (readonly [number, number, number])[]
}
