/** Sorts the files of a folder into images and says how many those are; a process of its own, with limits of its own. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { imagesOf } from '../../src/pipelines/open-job.js'

const folder = process.argv[2]!
const files = readdirSync(folder).map((name) => ({ field: name, path: join(folder, name) }))
console.log((await imagesOf(files, new AbortController().signal)).length)
