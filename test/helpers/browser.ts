/** Chromium as a person's browser: Debian's own, driven by playwright-core. Tests that need it skip where there is none. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type BrowserContext, chromium, type Page } from 'playwright-core'

const chosen = process.env.AIDANT_CHROMIUM ?? '/usr/bin/chromium'

/** AIDANT_CHROMIUM, or where Debian puts it; undefined when there is no such program. */
export const chromiumPath: string | undefined = existsSync(chosen) ? chosen : undefined

/** A renderer in software, and nothing of the browser's own that talks to the network. */
const FLAGS = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--use-angle=swiftshader',
]

export interface OpenBrowser extends AsyncDisposable {
  readonly context: BrowserContext
  /** Of its profile; every one of its processes descends from the one that was given it. */
  readonly folder: string
  /** A new page whose console errors, exceptions and requests to other origins are collected in `complaints`. */
  newPage(): Promise<Page>
  /** What no page may do; a test asserts that it is empty. */
  readonly complaints: string[]
}

export interface BrowserWish {
  readonly width?: number
  readonly height?: number
  readonly colorScheme?: 'light' | 'dark'
  readonly flags?: readonly string[]
  /** Pixels of the screen to one of CSS, along each edge. */
  readonly deviceScaleFactor?: number
  /** What its person answers when a server asks for a name and a password. */
  readonly logIn?: { readonly username: string; readonly password: string }
  /** Believes any certificate, as a person who clicks the warning away. */
  readonly insecure?: boolean
}

export async function openBrowser(wish: BrowserWish = {}): Promise<OpenBrowser> {
  const folder = await mkdtemp(join(tmpdir(), 'aidant-chromium-'))
  const context = await chromium.launchPersistentContext(folder, {
    executablePath: chromiumPath!,
    headless: true,
    args: [...FLAGS, ...(wish.flags ?? [])],
    acceptDownloads: true,
    ignoreHTTPSErrors: wish.insecure ?? false,
    ...(wish.logIn ? { httpCredentials: wish.logIn } : {}),
    viewport: { width: wish.width ?? 1440, height: wish.height ?? 900 },
    colorScheme: wish.colorScheme ?? 'light',
    deviceScaleFactor: wish.deviceScaleFactor ?? 1,
  })
  const complaints: string[] = []
  return {
    context,
    folder,
    complaints,
    async newPage() {
      const page = await context.newPage()
      // Software WebGL on two cores: what takes a second elsewhere may take many here.
      page.setDefaultTimeout(90_000)
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(`console: ${message.text()}`)
      })
      page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`))
      page.on('request', (request) => {
        const { protocol, origin } = new URL(request.url())
        const own = page.url() === 'about:blank' || origin === new URL(page.url()).origin
        if (!own && protocol !== 'data:' && protocol !== 'blob:') complaints.push(`foreign request: ${request.url()}`)
      })
      return page
    },
    async [Symbol.asyncDispose]() {
      await context.close()
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
