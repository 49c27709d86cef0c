/**
 * A computation that its caller drives, and may drop: it yields, nothing, wherever it can be stopped, at least every few
 * milliseconds. A caller without a reason to stop runs it through.
 */
export type Work<T> = Generator<undefined, T, undefined>
