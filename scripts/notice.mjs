/**
 * `npm run notice`: writes into NOTICE the packages that Aidant installs with it, by licence, and refuses one whose licence is not on
 * the list below. `--check` changes nothing and fails where NOTICE is not up to date. What only the developers use is checked, not listed.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import satisfies from 'spdx-satisfies'
import { ROOT } from './install.mjs'

/** They ask for credit and no more, LGPL's libvips aside, which is a library of its own beside sharp that anyone may replace. */
const ALLOWED = [
  ...['0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'BSD-2-Clause', 'BSD-3-Clause', 'CC0-1.0', 'ISC', 'MIT', 'Zlib'],
  'LGPL-3.0-or-later',
]
/** Never delivered: a tool's own licence does not reach what it was used on. */
const ALLOWED_FOR_TOOLS = [...ALLOWED, 'MPL-2.0', 'CC-BY-3.0']
/** Packages whose package.json does not say it in the way of today, and where they do say it. */
const SAID_ELSEWHERE = { memorystream: 'MIT' } // "licenses" in its package.json

const START = 'Packages from npm that are installed with Aidant (npm run notice writes this list):'
const END = 'End of the list of packages.'

/** `lock`: package-lock.json, parsed. Gives one package a line, and what is wrong with their licences. */
export function surveyLicences(lock) {
  const packages = new Map()
  const problems = []
  for (const [path, { version, license, dev, optional }] of Object.entries(lock.packages)) {
    if (path === '') continue
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length)
    const licence = license ?? SAID_ELSEWHERE[name]
    if (licence === undefined) problems.push(`${name} ${version} does not say its licence`)
    else if (!isAllowed(licence, dev ? ALLOWED_FOR_TOOLS : ALLOWED))
      problems.push(`${name} ${version} is under ${licence}, which is not on the list of scripts/notice.mjs`)
    if (!dev) packages.set(`${name} ${version}`, { name, version, licence, path, optional: optional === true })
  }
  return { packages: [...packages.values()].sort((a, b) => (a.name < b.name ? -1 : 1)), problems }
}

function isAllowed(licence, allowed) {
  try {
    return satisfies(licence, allowed)
  } catch {
    // no SPDX expression
    return false
  }
}

/** The first line of its licence that says whose it is. Packages for other machines are not there to be asked. */
function copyrightOf({ path, optional }) {
  const folder = join(ROOT, path)
  if (optional || !existsSync(folder)) return undefined
  const file = readdirSync(folder).find((name) => /^(licen[cs]e|copying)(\.|-|$)/i.test(name))
  if (file === undefined) return undefined
  const line = /^[\s*#/]*((?:copyright|\(c\)|©).*\d{4}.*|copyright \(c\) .*)$/im.exec(
    readFileSync(join(folder, file), 'utf8'),
  )
  return line?.[1].trim().replace(/\s+/g, ' ')
}

function listOf(packages) {
  return packages.map((one) => {
    const holder = copyrightOf(one)
    return `- ${one.name} ${one.version}: ${one.licence}${holder === undefined ? '' : `. ${holder}`}`
  })
}

function main() {
  const { packages, problems } = surveyLicences(JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')))
  for (const problem of problems) console.error(problem)
  const path = join(ROOT, 'NOTICE')
  const old = readFileSync(path, 'utf8')
  const [before] = old.split(`\n${START}`)
  const text = `${before.trimEnd()}\n\n${START}\n\n${listOf(packages).join('\n')}\n\n${END}\n`
  if (process.argv.includes('--check')) {
    if (text !== old) console.error('NOTICE is not up to date: run `npm run notice`')
    process.exitCode = text === old && problems.length === 0 ? 0 : 1
    return
  }
  writeFileSync(path, text)
  process.exitCode = problems.length === 0 ? 0 : 1
}

if (process.argv[1] === import.meta.filename) main()
