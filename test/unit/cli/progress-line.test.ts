import { expect, test } from 'vitest'
import { duration, ProgressLine } from '../../../src/cli/progress-line.js'

function recorder(isTTY: boolean) {
  const said: string[] = []
  return { stream: { isTTY, columns: 80, write: (text: string) => said.push(text) }, said }
}

test('a terminal shows one line with what is done and how long the rest will take', () => {
  let now = 0
  const { stream, said } = recorder(true)
  const progress = new ProgressLine(4, stream, () => now)
  now = 10_000
  progress.finished('a.nii')
  expect(said.at(-1)).toContain('[######------------------] 1/4 ETA 30 s  a.nii')
  progress.finished('b.nii', 'the image is cut short')
  progress.end()
  expect(said.join('')).toContain('b.nii: the image is cut short\n')
  expect(said.at(-1)).toBe('1 of 4 done, 1 failed, 2 not begun or stopped in 10 s\n')
})

test('a log gets a line for each scan and no control characters', () => {
  const { stream, said } = recorder(false)
  const progress = new ProgressLine(2, stream, () => 0)
  progress.finished('a.nii')
  progress.finished('b.nii')
  progress.end()
  expect(said).toEqual(['1/2 a.nii\n', '2/2 b.nii\n', '2 of 2 done in 0.0 s\n'])
})

test.each([
  [9_940, '9.9 s'],
  [59_400, '59 s'],
  [150_000, '2 min 30 s'],
  [3_720_000, '1 h 2 min'],
])('%i ms are %s', (ms, words) => {
  expect(duration(ms)).toBe(words)
})
