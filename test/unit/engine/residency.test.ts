import { expect, test } from 'vitest';
import { fakeEngine, request, submitted } from '../../kit/fake-engine.ts';

const use = (digest: string) => request({ adapters: [{ digest, weight: 1 }], stop: { maxTokens: 4 } });

test('the engine tells exactly what its adapters took, over loads and evictions', async () => {
  // Room for one adapter, so that each load evicts the one before. A step takes a millisecond.
  const { engine, clock, runner } = fakeEngine({ engine: { hostCacheBytes: 100 } });
  await (await submitted(engine, use('a'))).ended;
  expect(clock.monotonicMs()).toBe(4);
  clock.advance(996);
  await (await submitted(engine, use('b'))).ended;
  clock.advance(496);
  await (await submitted(engine, request({ stop: { maxTokens: 2 } }))).ended;
  expect(clock.monotonicMs()).toBe(1_502);

  const [hour, ...others] = await engine.drainResidency();
  expect(others).toEqual([]);
  const capacity = BigInt(100 + runner.bankPages * runner.bankPageBytes);
  expect(hour).toEqual({
    startMs: 0,
    aliveUs: 1_502_000n,
    capacityByteUs: capacity * 1_502_000n,
    adapters: [
      {
        digest: 'a',
        // In the cache until `b` came, in the bank from the end of its first step to the end of the first of `b`.
        hostByteUs: 100n * 1_000_000n,
        bankByteUs: 4n * 1_000_000n,
        loads: 1n,
        bytesLoaded: 100n,
        loadUs: 0n,
      },
      {
        digest: 'b',
        hostByteUs: 100n * 502_000n,
        // The plain request's first step ended at 1,501 and left nothing in the bank.
        bankByteUs: 4n * 500_000n,
        loads: 1n,
        bytesLoaded: 100n,
        loadUs: 0n,
      },
    ],
  });

  clock.advance(10);
  expect(await engine.drainResidency()).toMatchObject([
    {
      aliveUs: 10_000n,
      adapters: [{ digest: 'b', hostByteUs: 1_000_000n, bankByteUs: 0n, loads: 0n, bytesLoaded: 0n }],
    },
  ]);
  await engine.close({ graceMs: 0 });
});

test('an adapter that waits for room takes memory, and one that nobody wants any more takes none', async () => {
  const { engine, clock } = fakeEngine({
    engine: { hostCacheBytes: 100, maxBatch: 2 },
    adapters: { big: { bytes: 60 }, late: { bytes: 60 } },
  });
  const first = await submitted(engine, use('big'));
  const second = await submitted(engine, use('late'));
  await Promise.all([first.ended, second.ended]);
  const endedMs = clock.monotonicMs();
  clock.advance(5);
  const [hour] = await engine.drainResidency();
  const taken = new Map(hour?.adapters.map((one) => [one.digest, one.hostByteUs]));
  // Both were loaded at once, at zero; `big` left when its sequence had ended after four steps.
  expect([taken.get('big'), taken.get('late')]).toEqual([60n * 4_000n, 60n * BigInt(endedMs + 5) * 1_000n]);
  await engine.close({ graceMs: 0 });
});
