import { afterAll, beforeAll, expect, test } from 'vitest';
import { type EpochWorld, openEpochs, reader } from './epochs-kit.ts';

let world: EpochWorld;
beforeAll(async () => {
  world = await openEpochs();
});
afterAll(() => world.close());

test('first', async () => {
  const a = await world.kit.customer(10_000_000n);
  const b = await world.kit.customer(10_000_000n);
  for (const t of [a, b]) {
    await world.serve(t, [{ adapter: 'royal' }]);
    await world.serve(t, [{ adapter: 'royal', weight: 2 }, { adapter: 'rich', weight: -1 }]);
    await world.serve(t);
  }
  await world.serveBadly(a);
  await world.log();
  const closed = await world.closer().run();
  console.log(closed);
  const e = await world.proofs.epochs.get(null);
  console.log(e, JSON.stringify(JSON.parse(e.document), null, 1));
  console.log(await world.db.admin('SELECT q.reason, r.* FROM epoch_quarantined q LEFT JOIN usage_record r ON r.id = q.request_id'));
  console.log(await world.proofs.epochs.statement(reader(a), 1n, null));
  console.log(await world.proofs.epochs.statement(reader(world.one), 1n, world.royal.versionId));
  console.log(await world.proofs.epochs.statement(reader(world.third), 1n, null));
  expect(1).toBe(1);
});
