/** A program that starts a long job in a runner, says the runner's process id, and waits to be killed. */
import { inferenceJob, modelRef, realScheduler, request } from './runner-fixtures.js'

const { scheduler, pids } = realScheduler()
const { signal } = new AbortController()
void scheduler.runModel(request(), modelRef('very_slow'), inferenceJob(), signal, ({ stage }) => {
  if (stage === 'infer') process.stdout.write(`${pids[0]}\n`)
})
