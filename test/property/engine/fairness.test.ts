import { ok } from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { byAdapter, byTenant, ServiceLedger } from '../../../src/bench/sim/ledger.ts';
import { FlowSet } from '../../../src/engine/policies/flow-set.ts';
import { virtualTokenCounters } from '../../../src/engine/policies/vtc.ts';
import { Scheduler, type SchedulerLimits } from '../../../src/engine/scheduler.ts';
import { counterBound, SERVICE_WEIGHTS } from '../../../src/engine/service-cost.ts';
import { PRIORITY_CLASSES } from '../../../src/kernel/priority.ts';

/** fast-check prints seed and path of a failure; with the same seed it fails again. */
const SEED = 20_260_103;
const LARGEST = { promptTokens: 24, newTokens: 12, pages: 2, bytesLoaded: 8_000_000 };
const PAGES = [0, 1, 2, 2];

const requestArb = fc.record({
  tenant: fc.nat(4),
  adapter: fc.nat(3),
  priority: fc.constantFrom('STANDARD' as const, 'STANDARD' as const, ...PRIORITY_CLASSES),
  promptTokens: fc.integer({ min: 1, max: LARGEST.promptTokens }),
  newTokens: fc.integer({ min: 1, max: LARGEST.newTokens }),
  /** Steps after the one before; bursts and pauses. */
  gap: fc.constantFrom(0, 0, 0, 0, 1, 2, 30),
});

const traceArb = fc.record({
  requests: fc.array(requestArb, { minLength: 10, maxLength: 80, size: 'max' }),
  maxBatch: fc.integer({ min: 1, max: 6 }),
  prefillTokensPerStep: fc.integer({ min: 4, max: 32 }),
  allowance: fc.constantFrom(0, 20, 100),
  /** Whether memory makes sequences wait that have a row. */
  scarce: fc.boolean(),
  ttftMs: fc.constantFrom(1, 200, Number.POSITIVE_INFINITY),
});

type Trace = typeof traceArb extends fc.Arbitrary<infer T> ? T : never;

function limitsOf({ maxBatch, prefillTokensPerStep, scarce }: Trace): SchedulerLimits {
  const largest = LARGEST.promptTokens + LARGEST.newTokens;
  return {
    maxBatch,
    prefillTokensPerStep,
    maxQueue: 1_000,
    queueShare: 0,
    maxBypass: 8,
    maxPreemptions: 2,
    maxPrefillStall: 4,
    kvBudgetBytes: scarce ? largest + 10 : 1_000 * largest,
    bankPages: scarce ? 3 : 100,
  };
}

/** Runs a trace to its end and says how much tenants and adapters differed. */
function play(trace: Trace): { tenants: number; adapters: number } {
  const limits = limitsOf(trace);
  const tenants = new ServiceLedger(byTenant);
  const adapters = new ServiceLedger(byAdapter);
  const policy = tenants.watch(adapters.watch(virtualTokenCounters({ allowance: trace.allowance })));
  const target = { ttftMs: trace.ttftMs, interTokenMs: Number.POSITIVE_INFINITY };
  const scheduler = new Scheduler(limits, {
    policy,
    targets: { INTERACTIVE: target, STANDARD: target, BATCH: target },
  });
  const left = new Map<number, number>();
  let at = 0;
  const arrivals = trace.requests.map((request) => {
    at += request.gap;
    return { ...request, at };
  });
  for (let step = 0, next = 0; next < arrivals.length || left.size > 0; step++) {
    ok(step < 20_000, 'everything ends');
    for (; (arrivals[next]?.at ?? Number.POSITIVE_INFINITY) <= step; next++) {
      const request = arrivals[next];
      if (request === undefined) break;
      const pages = PAGES[request.adapter] ?? 0;
      const digest = `a${request.adapter}`;
      const { promptTokens, newTokens, priority } = request;
      scheduler.enqueue({
        key: next,
        tenantId: `t${request.tenant}`,
        priority,
        adapters: pages === 0 ? [] : [digest],
        arrivedMs: step,
        promptTokens,
        maxTokens: newTokens,
        kvBytes: promptTokens + newTokens,
      });
      if (pages > 0) scheduler.adaptersReady(next, [{ digest, pages }], next % 3 === 0 ? 8_000_000 : 0);
      left.set(next, newTokens);
    }
    const { rows } = scheduler.schedule(step);
    scheduler.update(rows);
    for (const { key, wantsLogits } of rows) {
      if (!wantsLogits) continue;
      const tokens = (left.get(key) ?? 0) - 1;
      left.set(key, tokens);
      if (tokens > 0) continue;
      scheduler.finish(key);
      left.delete(key);
    }
  }
  return { tenants: tenants.maxDifference, adapters: adapters.maxDifference };
}

test('the service of two flows that both wait differs within the bound, per class, of tenants and of adapters', () => {
  let worst = 0;
  const property = fc.property(traceArb, (trace) => {
    const limits = limitsOf(trace);
    const largest = { ...LARGEST, ...limits, rows: limits.maxBatch, leastWeight: 1 };
    const kvTokens = limits.kvBudgetBytes;
    // Without scarce memory nobody is overtaken because he does not fit, and the allowance does not come in.
    const allowance = trace.scarce ? trace.allowance : 0;
    const bound = 2 * counterBound({ ...largest, kvTokens }, allowance, SERVICE_WEIGHTS);
    const { tenants, adapters } = play(trace);
    expect(tenants).toBeLessThanOrEqual(bound);
    expect(adapters).toBeLessThanOrEqual(bound);
    worst = Math.max(worst, tenants / bound, adapters / bound);
  });
  fc.assert(property, { seed: SEED, numRuns: 700 });
  // The bound is not so loose that anything would pass.
  expect(worst).toBeGreaterThan(0.3);
});

const commandArb = fc.record({
  kind: fc.constantFrom('enter' as const, 'serve' as const, 'serve' as const, 'charge' as const),
  flow: fc.nat(5),
  cost: fc.integer({ min: 1, max: 20 }),
});

test('idling earns no credit: who comes back is level with the least served of those that waited', () => {
  const property = fc.property(fc.array(commandArb, { maxLength: 200, size: 'max' }), (commands) => {
    const flows = new FlowSet((id) => ({ id, weight: 1 + (Number(id) % 3) }));
    const waiting = new Map<string, number>();
    const ran = new Set<string>();
    let floor = 0;
    for (const { kind, flow, cost } of commands) {
      const id = String(flow);
      if (kind === 'enter') {
        flows.enter(id, true);
        waiting.set(id, (waiting.get(id) ?? 0) + 1);
      } else if (kind === 'serve') {
        const [first] = flows.inOrder(0);
        if (first === undefined) continue;
        const least = Math.min(...[...waiting.keys()].map((each) => flows.counter(each)));
        expect(flows.counter(first.id)).toBe(least);
        flows.leave(first.id);
        flows.charge(first.id, cost);
        ran.add(first.id);
        const left = (waiting.get(first.id) ?? 0) - 1;
        if (left > 0) waiting.set(first.id, left);
        else waiting.delete(first.id);
      } else if (ran.has(id)) flows.charge(id, cost);
      const active = [...waiting.keys()].map((each) => flows.counter(each));
      // The least counter of those that wait never falls, also over times in which nobody waits.
      if (active.length === 0) continue;
      expect(Math.min(...active)).toBeGreaterThanOrEqual(floor);
      floor = Math.min(...active);
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 500 });
});

/** Steps that a request of a rare client, or of a rare adapter, waits behind a flood. */
function rareWait(queue: number, rare: { tenant: string; adapter: string }): number {
  const limits = { ...limitsOf({ ...FLOOD, scarce: true }), kvBudgetBytes: 10_000 };
  const scheduler = new Scheduler(limits, { policy: virtualTokenCounters() });
  const enqueue = (key: number, tenantId: string, digest: string): void => {
    const spec = { key, tenantId, priority: 'STANDARD' as const, adapters: [digest], arrivedMs: 0 };
    scheduler.enqueue({ ...spec, promptTokens: 10, maxTokens: 10, kvBytes: 20 });
    scheduler.adaptersReady(key, [{ digest, pages: 1 }]);
  };
  // Three adapters fill the bank, and there is always more for them.
  for (let key = 0; key < queue; key++) enqueue(key, 'flood', `hot${key % 3}`);
  const drawn = new Map<number, number>();
  for (let step = 0; step < 5_000; step++) {
    if (step === 50) enqueue(queue, rare.tenant, rare.adapter);
    const { rows, started } = scheduler.schedule(step);
    if (started.includes(queue)) return step - 50;
    scheduler.update(rows);
    for (const { key, wantsLogits } of rows) {
      const tokens = (drawn.get(key) ?? 0) + (wantsLogits ? 1 : 0);
      drawn.set(key, tokens);
      if (tokens === 10) scheduler.finish(key);
    }
  }
  throw new Error('starved');
}

const FLOOD: Trace = {
  requests: [],
  maxBatch: 4,
  prefillTokensPerStep: 32,
  allowance: 0,
  scarce: true,
  ttftMs: Number.POSITIVE_INFINITY,
};

test('a rare adapter waits no longer than one residence, however long the queue for others', () => {
  for (const rare of [
    { tenant: 'other', adapter: 'cold' },
    { tenant: 'flood', adapter: 'cold' },
  ]) {
    expect(rareWait(100, rare)).toBeLessThanOrEqual(12);
    expect(rareWait(900, rare)).toBe(rareWait(100, rare));
  }
});
