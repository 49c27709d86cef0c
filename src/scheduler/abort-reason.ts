import { AppError } from '../errors.js'

/** What the caller said when it aborted, if it said it in our words. */
export function abortReason(signal: AbortSignal): AppError {
  return signal.reason instanceof AppError ? signal.reason : new AppError('CANCELLED', 'the request was cancelled')
}
