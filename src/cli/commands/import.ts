/** `aidant import FILE`: what would be understood of a model before it is loaded anywhere. No server is asked. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import type { Command } from 'commander'
import { loadConfig } from '../../config/load.js'
import { AppError } from '../../errors.js'
import type { Draft } from '../../registry/draft.js'
import { UsageError } from '../exit-codes.js'
import { ServerError } from '../server-client.js'
import { told } from '../told.js'

interface Options {
  readonly config?: string
  readonly output?: string
  readonly json?: boolean
}

/** Adds the command to the program. `print` takes whole lines. */
export function addImportCommand(program: Command, print: (line: string) => void = console.log): void {
  program
    .command('import <files...>')
    .description(
      'show how an ONNX file, a zip of an MMAR, a MONAI bundle or nnU-Net v2, or the files of several networks would be run; ' +
        'draft a config',
    )
    .option('--config <file>', 'config_aiaa.json to go by')
    .option('-o, --output <folder>', 'write config_aiaa.json there')
    .option('--json', 'the draft as JSON')
    .action(
      told(async (files: string[], { config, output, json }: Options) => {
        const draft = await look(files, config)
        if (output !== undefined) {
          await mkdir(output, { recursive: true })
          await writeFile(join(output, 'config_aiaa.json'), `${JSON.stringify(draft.config, undefined, 2)}\n`)
        }
        if (json) print(JSON.stringify(draft, undefined, 2))
        else for (const line of linesOf(draft, files, config, output)) print(line)
      }),
    )
}

/** What a server would refuse is told as it would tell it. */
async function look(files: readonly string[], configFile: string | undefined): Promise<Draft> {
  const config: unknown = configFile === undefined ? undefined : await readConfig(configFile)
  const several = files.map((path) => ({ entryName: basename(path), path, bytes: 0 }))
  const given = files.length === 1 ? { config, data: files[0] } : { config, several }
  const { draftOf } = await import('../../registry/draft.js')
  const { modelIntakeLimits } = await import('../../services.js')
  const folder = await mkdtemp(join(tmpdir(), 'aidant-import-'))
  try {
    return await draftOf(given, join(folder, 'files'), modelIntakeLimits(loadConfig([], process.env)))
  } catch (error) {
    if (error instanceof AppError) throw new ServerError(error.message, error.hint, error.statusCode)
    throw error
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function readConfig(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`'${path}' is not JSON`)
    throw error
  }
}

function linesOf(
  { understood, questions }: Draft,
  files: readonly string[],
  given: string | undefined,
  output: string | undefined,
): string[] {
  const asked = questions.flatMap(({ about, question, drafted, choices }) => [
    '',
    `${about}: ${question}`,
    `  drafted: ${drafted}`,
    ...choices.map(
      ({ answer, write }) => `  or ${answer}: ${write === null ? '(leave the step out)' : JSON.stringify(write)}`,
    ),
  ])
  const written = output === undefined ? given : join(output, 'config_aiaa.json')
  const config = written === undefined ? '' : ` --config ${written}`
  const next =
    questions.length > 0 && output === undefined
      ? `to change it: aidant import ${files.join(' ')} -o FOLDER, then edit FOLDER/config_aiaa.json`
      : `to load it: aidant load NAME${config} ${files.map((file) => `--data ${file}`).join(' ')}`
  return [...understood, ...asked, '', next]
}
