import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { prove } from '../../bin/demo/proof.mjs';

// What `npm run demo:proof` shows, by the same program. Each step of it throws when something does not hold.

test('from traffic to receipts, anchored epochs, payouts on a chain, an independent audit, and frauds that it finds', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'patchbay-proof-'));
  const said: string[] = [];
  try {
    const proven = await prove({ folder, say: (line) => said.push(line) });
    expect(proven.answers).toBe(36);
    expect(proven.epochs).toBeGreaterThanOrEqual(2);
    expect(proven.paid.map(({ slug }) => slug)).toEqual(['ada', 'bo']);
    for (const { units } of proven.paid) expect(BigInt(units)).toBeGreaterThan(0n);
    // Each request is in the bundle of its tenant, and in those of the owners of its adapters.
    expect(proven.verified).toBeGreaterThanOrEqual(2 * proven.answers);
    expect(proven.frauds).toHaveLength(4);
  } catch (error) {
    console.error(said.join('\n'));
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}, 300_000);
