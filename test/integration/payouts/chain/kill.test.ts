import { spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Bundle, bundle } from '../../../kit/bundle.ts';
import { UNIT } from '../kit.ts';
import { type ChainBase, type ChainWorld, openChainBase, openWorld } from './kit.ts';

const POINTS = {
  // The only one on a plain connection: the tree, its publication, and what it holds. The steps before and after it are those of
  // every rail, and killed in ../kill.test.ts; before its commit it is as if they had not begun.
  submit: ['plain transaction 1 after commit'],
  // What is read before it are five questions.
  settle: ['transaction 6 before commit'],
} as const;

let base: ChainBase;
let program: Bundle;
beforeAll(async () => {
  program = await bundle('test/integration/payouts/chain/kill-process.ts');
  base = await openChainBase();
});
afterAll(async () => {
  await base.db.dispose();
  await program.remove();
});

/** Lets a process carry the step out and die; answers with the signal that ended it. */
function die(world: ChainWorld, step: keyof typeof POINTS, point: string, batchId: string) {
  const { appUrl, systemUrl } = base.db;
  const { kit, site } = world;
  const order = {
    ...{ appUrl, systemUrl, folder: kit.folder, nowMs: kit.clock.nowMs(), actor: kit.drafter },
    ...{ point, step, batchId, distributor: site.distributor.address, token: site.token.address },
  };
  const child = spawn(process.execPath, [program.path, JSON.stringify(order)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return new Promise<NodeJS.Signals | null>((resolve) =>
    child.once('exit', (_code, signal) => resolve(signal)),
  );
}

test('a process that is killed while it makes a tree or settles one pays nobody twice, and loses nothing', async () => {
  const world = await openWorld(base);
  const { kit, site } = world;
  const account = await world.wallet();
  const who = await world.beneficiary(account);
  await site.give(10n * 100_000_000n);
  let paid = 0n;
  let trees = 0n;
  for (const [step, points] of Object.entries(POINTS)) {
    for (const point of points) {
      paid += 10n;
      trees += 1n;
      await world.earn(who, 10n * UNIT);
      const { id } = await kit.create(world.currency, null, 'CHAIN');
      await kit.payouts.batches.approve(kit.approver, id);
      if (step === 'submit') expect(await die(world, 'submit', point, id), point).toBe('SIGKILL');
      // Another process goes on by itself, and the operator again.
      await kit.payouts.batches.resume();
      const batch = await kit.payouts.batches.submit(kit.drafter, id);
      expect(batch.railReference, point).toBe(`31337:${site.distributor.address}:${trees}`);
      await world.send();
      if (step === 'settle') {
        // Read by this process, and settled by the one that dies.
        await world.follow();
        expect(await die(world, 'settle', point, id), point).toBe('SIGKILL');
      }
      await world.payouts.work();
      expect(await world.states(id), `${step}: ${point}`).toEqual(['PAID']);
      expect(await kit.paidOut(world.currency)).toBe(paid * UNIT);
    }
  }
  const claim = await world.payouts.claims.find(who.principal, { tenantId: null, account: null });
  expect(claim).toMatchObject({ sequence: trees, cumulative: paid * 1_000_000n });
  expect(await world.differences()).toEqual([]);
});
