/** The server's logger: JSON lines to standard output and the ring behind `GET /logs`. No patient data ever enters it. */
import { type DestinationStream, type LevelWithSilent, type Logger, multistream, pino } from 'pino'
import { AppError } from '../errors.js'
import { errorTrace } from '../util/error-trace.js'
import type { LogRing } from './log-ring.js'

/** Seat belts: nothing should log these, and if something does they stay unreadable. */
const REDACTED = [
  'authorization',
  'cookie',
  'params',
  'filename',
  'patient_id',
  'patient_name',
  // The multipart parser shows all request headers at level trace.
  'busboyOptions',
  '*.authorization',
  '*.cookie',
  '*.params',
  '*.filename',
  '*.patient_id',
  '*.patient_name',
]

/** An error in our own words with its message; any other by its type and its frames, since its message may quote a file. */
function errorFields(error: unknown): object {
  if (!(error instanceof AppError)) return { stack: errorTrace(error) }
  const { code, message } = error
  return { code, message, stack: errorTrace(error) }
}

export function createLogger(
  level: LevelWithSilent,
  ring: LogRing,
  output: DestinationStream = process.stdout,
): Logger {
  return pino(
    { level, redact: REDACTED, base: { pid: process.pid }, serializers: { err: errorFields, error: errorFields } },
    multistream([
      { stream: output, level: 'trace' },
      { stream: ring, level: 'trace' },
    ]),
  )
}
