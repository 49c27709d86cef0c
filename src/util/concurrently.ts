/**
 * Works through `items` with at most `width` at a time, in order of start. The first failure stops new starts; it is thrown
 * once everything that had started is over, so that nothing works on behind the caller's back.
 */
export async function forEachConcurrently<T>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number, worker: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const run = async (worker: number): Promise<void> => {
    try {
      for (let i = next++; i < items.length; i = next++) await work(items[i]!, i, worker)
    } catch (error) {
      next = items.length
      throw error
    }
  }
  const workers = Array.from({ length: Math.min(width, items.length) }, (_, worker) => run(worker))
  for (const outcome of await Promise.allSettled(workers)) if (outcome.status === 'rejected') throw outcome.reason
}
