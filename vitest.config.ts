import { defineConfig } from 'vitest/config';
import SlowestFirst from './test/kit/sequencer.ts';

/** Folders whose tests need Postgres; only a run that selects one of them pays for starting it. */
const WITH_POSTGRES = ['test/integration/**/*.test.ts', 'test/e2e/**/*.test.ts'];

export default defineConfig({
  test: {
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // Two cores are what a small machine has; more forks only fight each other.
    maxWorkers: 2,
    pool: 'forks',
    // A fork keeps its modules from file to file, because most files take longer to load them than to run. A file leaves
    // the process as it found it (see test/kit/file-end.ts).
    isolate: false,
    setupFiles: ['test/kit/setup.ts'],
    sequence: { sequencer: SlowestFirst },
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: WITH_POSTGRES,
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: WITH_POSTGRES,
          globalSetup: ['test/kit/global-setup.ts'],
        },
      },
    ],
  },
});
