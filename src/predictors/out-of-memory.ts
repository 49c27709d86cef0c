import { AppError } from '../errors.js'

/** The machine or the GPU had no room for this request. The runner that threw it is replaced: its arena may be full for good. */
export class OutOfMemoryError extends AppError {
  constructor(what: string, cause: unknown) {
    super('RUNNER_CRASHED', `${what} ran out of memory on this image`, {
      cause,
      hint: 'a smaller image, a scanning window in the model config or fewer models loaded at once need less memory',
    })
  }
}

const SIGNS = [
  /failed to allocate/i,
  /bad.?alloc/i,
  /out of memory/i,
  /CUDA_ERROR_OUT_OF_MEMORY/,
  /array buffer allocation failed/i,
  /WebAssembly\.Memory\(\): could not allocate/i,
  /CUBLAS_STATUS_ALLOC_FAILED/,
  /CUDNN_STATUS_ALLOC_FAILED/,
  /invalid (typed )?array( buffer)? length/i,
]

/** Whether a native or JavaScript error says, in one of its many ways, that memory ran out. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof Error && SIGNS.some((sign) => sign.test(error.message))
}
