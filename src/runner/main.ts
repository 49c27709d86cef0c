/** The program a runner process runs; started by scheduler/runner-process.ts, never by hand. */
import { startRunner } from './runner.js'

startRunner({
  inference: async () => (await import('../pipelines/run-inference.js')).runInference,
  tool: async () => (await import('../pipelines/run-tool.js')).runTool,
  proof: async () => (await import('./prove-model.js')).proveModel,
})
