import { expect, test } from 'vitest';
import { FlowSet } from '../../../src/engine/policies/flow-set.ts';
import { roundRobin } from '../../../src/engine/policies/round-robin.ts';
import { virtualTokenCounters } from '../../../src/engine/policies/vtc.ts';
import type { SchedulingPolicy, SequenceView } from '../../../src/engine/policy.ts';

function view(key: number, tenantId: string, adapter = '', serviceCost = 10): SequenceView {
  return {
    key,
    tenantId,
    priority: 'STANDARD',
    adapters: adapter === '' ? [] : [adapter],
    arrivedMs: 0,
    promptTokens: 1,
    maxTokens: 1,
    processed: 0,
    known: 1,
    latestStartMs: Number.POSITIVE_INFINITY,
    serviceCost,
    rowMs: 100,
  };
}

/** Starts and serves sequences to the end, one after another, while all tenants have more waiting. */
function served(policy: SchedulingPolicy, rounds: number, cost: (tenant: string) => number) {
  const queue = policy();
  const starts = new Map<string, number>();
  let key = 0;
  for (const tenant of ['a', 'b', 'c']) for (let i = 0; i < rounds; i++) queue.add(view(key++, tenant));
  for (let i = 0; i < rounds; i++) {
    const [next] = queue.candidates();
    if (next === undefined) break;
    queue.remove(next);
    queue.charge(next, cost(next.tenantId));
    queue.ended(next);
    starts.set(next.tenantId, (starts.get(next.tenantId) ?? 0) + 1);
  }
  return starts;
}

test('counters share service by weight, whatever a request costs; turns share requests', () => {
  const cost = (tenant: string): number => (tenant === 'a' ? 30 : 10);
  const weightOf = (tenant: string): number => (tenant === 'c' ? 2 : 1);
  const fair = served(virtualTokenCounters({ weightOf }), 100, cost);
  // 1 : 3 : 6 requests are service of 1 : 1 : 2.
  expect(fair.get('a')).toBe(10);
  expect(fair.get('b')).toBe(30);
  expect(fair.get('c')).toBe(60);
  expect([...served(roundRobin, 99, cost).values()]).toEqual([33, 33, 33]);
});

test('a blend in any order is one flow, and adapters of a tenant take turns by service', () => {
  const queue = virtualTokenCounters()();
  const blend = { ...view(1, 't'), adapters: ['x', 'y'] };
  queue.add(blend);
  queue.add({ ...view(2, 't'), adapters: ['y', 'x'] });
  queue.add(view(3, 't', 'z'));
  queue.remove(blend);
  queue.charge(blend, 5);
  expect([...queue.candidates()].map(({ key }) => key)).toEqual([3, 2]);
});

test('who does not fit is overtaken only by those within the allowance', () => {
  const queue = virtualTokenCounters({ allowance: 10 })();
  for (const [key, tenant] of ['a', 'b', 'c'].entries()) queue.add(view(key, tenant));
  queue.charge(view(1, 'b'), 10);
  queue.charge(view(2, 'c'), 11);
  expect([...queue.candidates()].map(({ key }) => key)).toEqual([0, 1]);
});

test('work ahead is what others are served until the turn of the flow comes', () => {
  const queue = virtualTokenCounters()();
  for (let key = 0; key < 20; key++) queue.add(view(key, 'flood'));
  queue.add(view(20, 'quiet'));
  // The new sequence comes after the quiet client's first and as much of the flood.
  expect(queue.workAhead(view(21, 'quiet'))).toMatchObject({ sequences: 2, rowMs: 200 });
  expect(queue.workAhead(view(21, 'flood')).sequences).toBe(21);
  expect(queue.workAhead(view(21, 'new')).sequences).toBe(0);
});

test('counters of idle flows are forgotten, except of those that are ahead', () => {
  const flows = new FlowSet((id) => ({ id, weight: 1 }));
  flows.enter('busy', true);
  flows.charge('busy', 100);
  for (let i = 0; i < 5_000; i++) {
    flows.enter(`f${i}`, true);
    flows.leave(`f${i}`);
    flows.ended(`f${i}`);
  }
  expect(flows.size).toBeLessThan(1_100);
  expect(flows.counter('busy')).toBe(100);
});
