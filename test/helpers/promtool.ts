/** Prometheus's own tool (Debian: package prometheus), which checks what is meant for it. */
import { spawnSync } from 'node:child_process'

export const hasPromtool = spawnSync('promtool', ['--version']).status === 0

/** What it says, which is nothing for metrics that are in order; throws where it refuses. */
export function promtool(
  args: readonly string[],
  options: { readonly input?: string; readonly cwd?: string } = {},
): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8', ...options })
  if (status !== 0) throw new Error(`promtool ${args.join(' ')}: ${stdout}${stderr}`)
  return `${stdout}${stderr}`
}

/** The samples of a reply of /metrics: `name{label="value",…}` with the labels in order -> value. */
export function samplesOf(text: string): ReadonlyMap<string, number> {
  const samples = new Map<string, number>()
  for (const line of text.split('\n')) {
    const match = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/.exec(line)
    if (!match) continue
    const labels = [...(match[2] ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([pair]) => pair).sort()
    samples.set(labels.length === 0 ? match[1]! : `${match[1]}{${labels.join(',')}}`, Number(match[3]))
  }
  return samples
}
