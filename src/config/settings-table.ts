import { SETTINGS, showDefault } from './schema.js'

/** All settings as a Markdown table, as README.md holds it. */
export function settingsTable(): string {
  const rows = SETTINGS.map((setting) => {
    const help = setting.help.replaceAll('|', '\\|')
    return `| \`${setting.flag} ${setting.value}\` | ${showDefault(setting)} | ${help} |`
  })
  return ['| flag | default | what and why |', '|---|---|---|', ...rows].join('\n')
}
