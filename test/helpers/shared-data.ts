/** The folder of real files that is not part of the project; tests that need it skip where it is absent. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const beside = fileURLToPath(new URL('../../../shared/data', import.meta.url))
const chosen = process.env.AIDANT_SHARED_DATA ?? beside

/** `../shared/data` beside the repository, or AIDANT_SHARED_DATA; undefined when there is no such folder. */
export const sharedData: string | undefined = existsSync(chosen) ? chosen : undefined
