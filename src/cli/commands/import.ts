/** `aidant import FILE`: what would be understood of a model before it is loaded anywhere. No server is asked. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { loadConfig } from '../../config/load.js'
import { AppError } from '../../errors.js'
import { type Draft, draftOf } from '../../registry/draft.js'
import { modelIntakeLimits } from '../../services.js'
import { ServerError } from '../server-client.js'
import { told } from '../told.js'

interface Options {
  readonly output?: string
  readonly json?: boolean
}

/** Adds the command to the program. `print` takes whole lines. */
export function addImportCommand(program: Command, print: (line: string) => void = console.log): void {
  program
    .command('import <file>')
    .description(
      'show how an ONNX file, or a zip of an MMAR, a MONAI bundle or nnU-Net v2, would be run; draft a config',
    )
    .option('-o, --output <folder>', 'write config_aiaa.json there')
    .option('--json', 'the draft as JSON')
    .action(
      told(async (file: string, { output, json }: Options) => {
        const draft = await look(file)
        if (output !== undefined) {
          await mkdir(output, { recursive: true })
          await writeFile(join(output, 'config_aiaa.json'), `${JSON.stringify(draft.config, undefined, 2)}\n`)
        }
        if (json) print(JSON.stringify(draft, undefined, 2))
        else for (const line of linesOf(draft, file, output)) print(line)
      }),
    )
}

/** What a server would refuse is told as it would tell it. */
async function look(file: string): Promise<Draft> {
  const folder = await mkdtemp(join(tmpdir(), 'aidant-import-'))
  try {
    return await draftOf(undefined, file, join(folder, 'files'), modelIntakeLimits(loadConfig([], process.env)))
  } catch (error) {
    if (error instanceof AppError) throw new ServerError(error.message, error.hint, error.statusCode)
    throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function linesOf({ understood, questions }: Draft, file: string, output: string | undefined): string[] {
  const asked = questions.flatMap(({ about, question, drafted, choices }) => [
    '',
    `${about}: ${question}`,
    `  drafted: ${drafted}`,
    ...choices.map(
      ({ answer, write }) => `  or ${answer}: ${write === null ? '(leave the step out)' : JSON.stringify(write)}`,
    ),
  ])
  const config = output === undefined ? '' : ` --config ${join(output, 'config_aiaa.json')}`
  const next =
    questions.length > 0 && output === undefined
      ? `to change it: aidant import ${file} -o FOLDER, then edit FOLDER/config_aiaa.json`
      : `to load it: aidant load NAME${config} --data ${file}`
  return [...understood, ...asked, '', next]
}
