/** `aidant completion bash|zsh|fish`: a script that completes commands and their flags, made from the program itself. */
import { Argument, type Command } from 'commander'
import { SETTINGS } from '../../config/schema.js'

interface Word {
  readonly name: string
  readonly about: string
}
interface Completed extends Word {
  readonly flags: readonly Word[]
}

export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('print a completion script: source <(aidant completion bash)')
    .addArgument(new Argument('<shell>').choices(Object.keys(SCRIPTS)))
    .action((shell: string) => {
      process.stdout.write(SCRIPTS[shell]!(commandsOf(program)))
    })
}

function commandsOf(program: Command): Completed[] {
  return program.commands.map((command) => ({
    name: command.name(),
    about: firstSentence(command.description()),
    flags:
      command.name() === 'serve'
        ? SETTINGS.map(({ flag, help }) => ({ name: flag, about: help }))
        : command.options.flatMap(({ long, description }) => (long ? [{ name: long, about: description }] : [])),
  }))
}

const firstSentence = (text: string): string => text.split(';')[0]!

const SCRIPTS: Readonly<Record<string, (commands: readonly Completed[]) => string>> = { bash, zsh, fish }

function bash(commands: readonly Completed[]): string {
  const names = (words: readonly Word[]) => words.map(({ name }) => name).join(' ')
  const cases = commands.map((command) => `    ${command.name}) words='${names(command.flags)}' ;;`)
  return [
    '_aidant() {',
    `  local current=\${COMP_WORDS[COMP_CWORD]} words=''`,
    `  case \${COMP_WORDS[1]} in`,
    ...cases,
    '  esac',
    `  [ "$COMP_CWORD" = 1 ] && words='${names(commands)}'`,
    '  if [ "$COMP_CWORD" = 1 ] || [[ $current == -* ]]; then COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '  else COMPREPLY=($(compgen -f -- "$current")); fi',
    '}',
    'complete -o filenames -F _aidant aidant',
    '',
  ].join('\n')
}

function zsh(commands: readonly Completed[]): string {
  const described = ({ name, about }: Word) => quoted(`${name.replaceAll(':', '\\:')}:${about}`)
  const flag = ({ name, about }: Word) => quoted(`${name}[${about.replaceAll(/[[\]]/g, '')}]`)
  return [
    '#compdef aidant',
    '_aidant() {',
    `  local -a commands=(${commands.map(described).join(' ')})`,
    '  if (( CURRENT == 2 )); then _describe command commands; return; fi',
    '  case $words[2] in',
    ...commands.map(({ name, flags }) => `    ${name}) _arguments ${flags.map(flag).join(' ')} '*:file:_files' ;;`),
    '  esac',
    '}',
    'compdef _aidant aidant',
    '',
  ].join('\n')
}

function fish(commands: readonly Completed[]): string {
  const lines = commands.flatMap(({ name, about, flags }) => [
    `complete -c aidant -n __fish_use_subcommand -f -a ${name} -d ${quoted(about)}`,
    ...flags.map(
      (flag) =>
        `complete -c aidant -n '__fish_seen_subcommand_from ${name}' -l ${flag.name.slice(2)} -d ${quoted(flag.about)}`,
    ),
  ])
  return `${lines.join('\n')}\n`
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
