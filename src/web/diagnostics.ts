/** What helps somebody who was not there: versions, device, models, timings, ids of errors. Never a file's name or content. */
import type { Workbench } from './workbench.js'

export async function diagnostics(bench: Workbench): Promise<string> {
  const { api, models, scan, store, viewer, history } = bench
  const server = await api.server().catch((error: Error) => ({ error: error.message }))
  const facts = scan && { ...scan.facts, notes: scan.facts.notes?.length ?? 0 }
  return JSON.stringify(
    {
      server,
      browser: navigator.userAgent,
      screen: `${innerWidth}x${innerHeight} at ${devicePixelRatio}`,
      renderer: viewer.renderer,
      image: facts,
      segments: store.doc.segments.length,
      models: models.map(({ name, type, state, device, reason, revision }) => ({
        name,
        type,
        state,
        device,
        reason,
        revision,
      })),
      history,
    },
    undefined,
    2,
  )
}
