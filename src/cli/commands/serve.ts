/** `aidant serve`: settings from flags and environment, then the server. */
import { ConfigError, loadConfig, unknownVariables } from '../../config/load.js'
import { SETTINGS, type SettingMeta, showDefault } from '../../config/schema.js'

const GROUPS: Readonly<Record<SettingMeta['group'], string>> = {
  server: 'Server',
  access: 'Who may call, and encryption',
  models: 'Models and jobs',
  limits: 'Limits',
  sessions: 'Sessions',
  datastore: 'Datastore',
  fetching: 'Fetching images from elsewhere',
  dicomweb: 'The DICOMweb service of this installation',
}

/** Returns the exit code when the server could not be started; a started one runs until it is stopped. */
export async function runServe(words: readonly string[]): Promise<number> {
  if (words.some((word) => word === '--help' || word === '-h')) {
    process.stdout.write(serveHelp())
    return 0
  }
  try {
    const config = loadConfig(words, process.env)
    const { serve } = await import('../../server.js')
    await serve(
      config,
      unknownVariables(process.env).map(({ name }) => name),
    )
    return 0
  } catch (error) {
    process.stderr.write(`${describe(error)}\n`)
    return 1
  }
}

/** The table of all flags with their defaults and reasons. */
export function serveHelp(): string {
  const lines = ['Usage: aidant serve [flags]', '']
  lines.push('Every flag is also an environment variable: --max-queued-jobs is AIDANT_MAX_QUEUED_JOBS. Flags win.')
  lines.push('BYTES take k, m, g (powers of 1024); SECONDS take s, m, h, d; lists take commas.', '')
  for (const [group, title] of Object.entries(GROUPS)) {
    lines.push(`${title}:`)
    for (const setting of SETTINGS.filter((candidate) => candidate.group === group)) {
      const flag = `  ${setting.flag} ${setting.value}`
      lines.push(`${flag.padEnd(38)}default ${showDefault(setting)}`)
      lines.push(`      ${setting.help}`)
    }
    lines.push('')
  }
  return lines.join('\n')
}

function describe(error: unknown): string {
  if (error instanceof ConfigError)
    return ['aidant serve: these settings need a change:', ...error.problems.map((problem) => `  ${problem}`)].join(
      '\n',
    )
  const { code, port, address, message } = error as NodeJS.ErrnoException & { port?: number; address?: string }
  if (code === 'EADDRINUSE')
    return `aidant serve: port ${port} on ${address} is in use; stop the other program or choose another with --port`
  if (code === 'EACCES' && port !== undefined)
    return `aidant serve: no permission to listen on port ${port}; choose one above 1023 with --port`
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND')
    return `aidant serve: --host: this machine has no address '${address ?? ''}' to listen on`
  return `aidant serve: ${message}`
}
