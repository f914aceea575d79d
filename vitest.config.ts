import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: [],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two cores are what a small machine has; more forks only fight each other.
    maxWorkers: 2,
    pool: 'forks',
  },
});
