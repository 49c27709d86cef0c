/** What a runner without a model does. */
import type { JobControl, JobResult, ToolJob } from '../contract/job.js'
import { ingest } from './ingest.js'
import { ingestLabel } from './ingest-label.js'
import { labelMapToSeg } from './label-map-to-seg.js'
import { labelVolume } from './label-volume.js'
import { openJob } from './open-job.js'
import { fixpolygon, mask2polygon } from './polygons.js'
import type { RunTool } from './run.js'
import { seriesFile } from './series-file.js'

const TOOLS: Readonly<Record<ToolJob['kind'], (job: ToolJob, control: JobControl) => Promise<JobResult>>> = {
  ingest,
  ingestLabel,
  labelVolume,
  seriesFile,
  mask2polygon,
  fixpolygon,
  dicomSeg: labelMapToSeg,
}

/** Runs a tool job. Errors are those of the tool it names. */
export const runTool: RunTool = async (job, control) => TOOLS[job.kind](await openJob(job, control.signal), control)
