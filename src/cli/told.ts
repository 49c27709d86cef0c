import { ConfigError } from '../config/load.js'
import { EXIT, UsageError } from './exit-codes.js'
import { ServerError } from './server-client.js'

/** Runs a command's work; what goes wrong is said on stderr in words, with a hint, and decides the exit code. */
export function told<A extends unknown[]>(work: (...args: A) => Promise<void>): (...args: A) => Promise<void> {
  return async (...args) => {
    try {
      await work(...args)
    } catch (error) {
      const { code, path } = error as NodeJS.ErrnoException
      if (error instanceof UsageError) complain(error.message, error.hint, EXIT.usage)
      else if (error instanceof ConfigError) complain(error.problems.join('\n  '), undefined, EXIT.usage)
      else if (error instanceof ServerError)
        complain(error.message, error.hint, error.status === undefined ? EXIT.noServer : EXIT.failed)
      else if (code === 'ENOENT') complain(`there is no file ${path}`, undefined, EXIT.failed)
      else throw error
    }
  }
}

function complain(message: string, hint: string | undefined, exitCode: number): void {
  process.stderr.write(`aidant: ${message}\n${hint === undefined ? '' : `  ${hint}\n`}`)
  process.exitCode = exitCode
}
