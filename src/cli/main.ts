#!/usr/bin/env node
/** The `aidant` command. */
import { Command } from 'commander'
import { nearestWord } from '../util/nearest-word.js'
import { readVersion } from '../util/version.js'
import { addAnnotateCommands } from './commands/annotate.js'
import { addBenchCommand } from './commands/bench.js'
import { addCompletionCommand } from './commands/completion.js'
import { addDatastoreCommands } from './commands/datastore.js'
import { addDoctorCommand } from './commands/doctor.js'
import { addImportCommand } from './commands/import.js'
import { addModelCommands } from './commands/models.js'
import { runServe } from './commands/serve.js'
import { EXIT, EXIT_HELP } from './exit-codes.js'

const program = new Command('aidant')
  .description('AI-assisted annotation server for medical images')
  .version(readVersion())
  .showSuggestionAfterError()
  .exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT.done : EXIT.usage))

program
  .command('serve', { isDefault: true })
  .description('run the server; aidant serve --help lists every flag')
  .helpOption(false)
  .allowUnknownOption()
  .allowExcessArguments()
  .argument('[flags...]')
  .action(async (_flags: string[], _options: unknown, command: Command) => {
    const [word] = command.args
    if (word !== undefined && !word.startsWith('-')) refuseWord(word)
    const code = await runServe(command.args)
    // A server that could not start may have opened something that keeps a process alive.
    if (code !== 0) process.exit(code)
  })

addModelCommands(program)
addImportCommand(program)
addAnnotateCommands(program)
addDatastoreCommands(program)
addDoctorCommand(program)
addBenchCommand(program)
addCompletionCommand(program)

program.addHelpText(
  'after',
  `
${EXIT_HELP}`,
)

/** `serve` is what runs without a command, so a misspelt one arrives there. */
function refuseWord(word: string): never {
  const near = nearestWord(
    word,
    program.commands.map((command) => command.name()),
  )
  process.stderr.write(`aidant: there is no command '${word}'${near === undefined ? '' : ` (did you mean ${near}?)`}\n`)
  process.exit(EXIT.usage)
}

await program.parseAsync()
