/** The program a runner process runs; started by scheduler/runner-process.ts, never by hand. */
import { runInference } from '../pipelines/run-inference.js'
import { runTool } from '../pipelines/run-tool.js'
import { proveModel } from './prove-model.js'
import { startRunner } from './runner.js'

startRunner({ runInference, runTool, proveModel })
