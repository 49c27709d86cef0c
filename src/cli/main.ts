#!/usr/bin/env node
/** The `aidant` command. */
import { Command } from 'commander'
import { readVersion } from '../util/version.js'
import { addModelCommands } from './commands/models.js'
import { runServe } from './commands/serve.js'

const program = new Command('aidant')
  .description('AI-assisted annotation server for medical images')
  .version(readVersion())
  .showSuggestionAfterError()

program
  .command('serve', { isDefault: true })
  .description('run the server; aidant serve --help lists every flag')
  .helpOption(false)
  .allowUnknownOption()
  .allowExcessArguments()
  .argument('[flags...]')
  .action(async (_flags: string[], _options: unknown, command: Command) => {
    const code = await runServe(command.args)
    // A server that could not start may have opened something that keeps a process alive.
    if (code !== 0) process.exit(code)
  })

addModelCommands(program)

await program.parseAsync()
