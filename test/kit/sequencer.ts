import { BaseSequencer, type TestSpecification } from 'vitest/node';

/**
 * The files that take longest, longest first. One that begins last keeps a single fork busy while the other has nothing
 * left to do; what is not listed follows, in the order that vitest gives it.
 */
const SLOW = [
  'test/e2e/starter.test.ts',
  'test/e2e/kill.test.ts',
  'test/e2e/proof.test.ts',
  'test/integration/db/embedded.test.ts',
  'test/integration/payouts/oracle.test.ts',
  'test/integration/payouts/kill.test.ts',
  'test/integration/invoicing/kill.test.ts',
  'test/e2e/export.test.ts',
  'test/integration/exports/queue.test.ts',
  'test/integration/tenant/isolation/fields.test.ts',
  'test/integration/tenant/isolation/audit.test.ts',
  'test/golden/mixed.test.ts',
  'test/golden/chunks.test.ts',
  'test/golden/prefix.test.ts',
  'test/property/engine/scheduler.test.ts',
  'test/property/engine/fairness.test.ts',
];

/** Begins the slowest files of each project first. */
export default class SlowestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const found = SLOW.findIndex((name) => moduleId.endsWith(`/${name}`));
      return found === -1 ? SLOW.length : found;
    };
    const sorted = await super.sort(files);
    // Projects stay apart, because a fork goes on only with files of its own project.
    return sorted.sort((a, b) => a.project.name.localeCompare(b.project.name) || rank(a) - rank(b));
  }
}
