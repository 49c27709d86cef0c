/** How a command ends, for scripts. `aidant --help` and docs/cli.md list them. */
export const EXIT = {
  done: 0,
  /** Some inputs failed (the others were done), or something that was looked at is not in order. */
  failed: 1,
  /** The command was called wrongly: nothing was done. */
  usage: 2,
  /** No server answers, or none could be started. */
  noServer: 3,
  /** Ctrl-C or SIGTERM; as shells say it. */
  interrupted: 130,
} as const

export const EXIT_HELP = [
  'Exit codes:',
  `  ${EXIT.done}    all was done`,
  `  ${EXIT.failed}    some inputs failed, or the server refused, or doctor found what must be mended`,
  `  ${EXIT.usage}    the command was called wrongly; nothing was done`,
  `  ${EXIT.noServer}    no server answers, or none could be started`,
  `  ${EXIT.interrupted}  interrupted`,
].join('\n')

/** A command called wrongly, in words for its caller. */
export class UsageError extends Error {
  constructor(
    message: string,
    readonly hint?: string,
  ) {
    super(message)
    this.name = 'UsageError'
  }
}
