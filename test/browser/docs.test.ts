/** /docs as a person uses it: open an operation, choose a file, press Execute. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { chromiumPath, type OpenBrowser, openBrowser } from '../helpers/browser.js'
import { ServerProcess } from '../helpers/server-process.js'

const golden = (name: string) => fileURLToPath(new URL(`../golden/${name}`, import.meta.url))
const DISC =
  '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="48"><circle cx="20" cy="20" r="12" fill="#888"/></svg>'
const SCAN = golden('transform-hippocampus.nii.gz')

describe.skipIf(chromiumPath === undefined)('/docs in Chromium', { timeout: 240_000 }, () => {
  let workspace: string
  let picture: string
  let server: ServerProcess
  let browser: OpenBrowser
  let page: Page

  beforeAll(async () => {
    workspace = await mkdtemp(join(tmpdir(), 'aidant-docs-'))
    picture = join(workspace, 'disc.png')
    await sharp(Buffer.from(DISC)).png().toFile(picture)
    server = await ServerProcess.start(join(workspace, 'ws'), ['--datastore', 'workspace'])
    browser = await openBrowser()
    page = await browser.newPage()
    await page.goto(`${server.url}/docs`)
    await page.locator('#operations-inference-segmentation').waitFor()
  })
  afterAll(async () => {
    await browser?.[Symbol.asyncDispose]()
    await server?.end('SIGTERM')
    await rm(workspace, { recursive: true, force: true })
  })

  /** Opens an operation, gives it a file where it takes one and what its fields need, and presses Execute. */
  async function execute(
    tag: string,
    operationId: string,
    file: string | undefined,
    fields: Readonly<Record<string, string>> = {},
  ) {
    const operation = page.locator(`#operations-${tag}-${operationId}`)
    await operation.locator('.opblock-summary-control').click()
    for (const [name, value] of Object.entries(fields))
      await operation.locator(`tr[data-param-name=${name}] input`).fill(value)
    if (file !== undefined) await operation.locator('input[type=file]').first().setInputFiles(file)
    const answered = page.waitForResponse((response) => response.request().resourceType() === 'fetch')
    await operation.locator('button.execute').click()
    const response = await answered
    await operation.locator('.live-responses-table').waitFor()
    return { operation, status: response.status(), sent: response.request() }
  }

  /** Every operation whose body has `params`, as the served document lists them. */
  async function operationsWithParams(): Promise<{ tag: string; id: string }[]> {
    const document = await (await fetch(`${server.url}/docs/json`)).json()
    type Operation = { tags: string[]; operationId: string; requestBody?: { content: Record<string, unknown> } }
    const operations = Object.values(document.paths as Record<string, Record<string, Operation>>).flatMap(Object.values)
    return operations
      .filter(({ requestBody }) =>
        JSON.stringify(requestBody?.content['multipart/form-data'] ?? '').includes('"params"'),
      )
      .map(({ tags, operationId }) => ({ tag: tags[0]!, id: operationId }))
  }

  test('every route that takes params answers 200 to its own example and a file', async () => {
    const operations = await operationsWithParams()
    const answers: Record<string, number> = {}
    // A label belongs to an image that the datastore has.
    const put = operations.findIndex(({ id }) => id === 'putMonaiDatastore')
    operations.unshift(...operations.splice(put, 1))
    for (const { tag, id } of operations) {
      const fields = id.startsWith('putMonai') ? { image: 'head' } : {}
      answers[id] = (await execute(tag, id, id === 'fixpolygon' ? picture : SCAN, fields)).status
    }
    expect(answers).toEqual({
      segmentation: 200,
      dextr3d: 200,
      deepgrow: 200,
      inference: 200,
      mask2polygon: 200,
      fixpolygon: 200,
      inferMonaiLabel: 200,
      putMonaiDatastore: 200,
      putMonaiImage: 200,
      putMonaiLabel: 200,
    })
    expect(browser.complaints).toEqual([])
  })

  test('a label map can be downloaded, and a picture is shown', async () => {
    const volume = page.locator('#operations-inference-segmentation .live-responses-table a[download]')
    const download = page.waitForEvent('download')
    await volume.click()
    expect((await download).suggestedFilename()).toBe('aas_result.nii.gz')
    const image = page.locator('#operations-polygons-fixpolygon .live-responses-table img')
    expect(await image.evaluate((node) => (node as HTMLImageElement).naturalWidth)).toBeGreaterThan(0)
    expect(browser.complaints).toEqual([])
  })

  test('models are offered as choices that suit the route, and async as true and false', async () => {
    const offered = (id: string, name: string) =>
      page.locator(`#operations-inference-${id} tr[data-param-name=${name}] select option`).allInnerTexts()
    expect(await offered('deepgrow', 'model')).toEqual(['deepgrow_2d', 'deepgrow_3d'])
    expect(await offered('dextr3d', 'model')).toEqual(['dextr3d'])
    expect(await offered('inference', 'model')).toContain('modality_2d')
    expect((await offered('segmentation', 'async')).filter((word) => word !== '--')).toEqual(['true', 'false'])
  })

  test('an image put into a session through the page answers 200', async () => {
    expect((await execute('session', 'createSession', SCAN)).status).toBe(200)
    expect(browser.complaints).toEqual([])
  })
})
