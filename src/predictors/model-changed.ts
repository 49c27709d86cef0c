import { AppError } from '../errors.js'

/**
 * The inference server has another model under the name than when this runner asked. The runner that threw it is replaced, and
 * the next one reads anew what the model takes and gives.
 */
export class ModelChangedError extends AppError {
  /** `now`: its tensors as they are now. */
  constructor(model: string, now: string) {
    super('MODEL_NOT_READY', `model '${model}' has changed on its inference server: ${now}`, {
      hint: 'send the request again; where the model no longer fits its config here, the answer will say so',
      retryAfterSeconds: 1,
    })
  }
}
