import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    setupFiles: ['test/setup.ts'],
    // Runner processes and real peers take their time on a 2-core machine; a hung test still ends.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Browsers, peers and processes share two cores there: what failed is asked once more, and has to pass then.
    retry: process.env.CI ? 1 : 0,
    pool: 'forks',
    maxWorkers: 2,
  },
})
