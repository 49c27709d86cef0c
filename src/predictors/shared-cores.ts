/**
 * A network that runs on all cores, or beside others on its share of them. onnxruntime fixes the number of threads when a
 * network is opened, and with more threads than cores they wait for each other; so there are two, the second from its first use on.
 */
import type { Predictor } from '../contract/tensor.js'
import { isOutOfMemory } from './out-of-memory.js'

/** What the job that runs now was granted. */
export interface CoreUse {
  shared: boolean
}

/** `whole` where the cores are not shared, else what `openShare` opens; where that does not open, `whole` all the same. */
export function onSharedCores(
  whole: Predictor,
  openShare: () => Promise<Predictor>,
  cores: Readonly<CoreUse>,
): Predictor {
  let share: Predictor | undefined
  const opened = async (): Promise<Predictor> => {
    try {
      return await openShare()
    } catch (error) {
      // its file may be gone by now, when another server has replaced the model: the open one still answers
      if (isOutOfMemory(error)) throw error
      return whole
    }
  }
  return {
    inputs: whole.inputs,
    outputs: whole.outputs,
    device: whole.device,
    fallbackReason: whole.fallbackReason,
    run: async (feeds) => {
      if (!cores.shared) return whole.run(feeds)
      share ??= await opened()
      return share.run(feeds)
    },
    close: async () => {
      await whole.close()
      if (share && share !== whole) await share.close()
    },
  }
}
