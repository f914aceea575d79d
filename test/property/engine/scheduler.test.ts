import { deepEqual, equal, ok } from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { SchedulingPolicy, SequenceView } from '../../../src/engine/policy.ts';
import { firstComeFirstServed } from '../../../src/engine/policy.ts';
import { type PlannedRow, Scheduler, type SequenceSpec } from '../../../src/engine/scheduler.ts';
import { PRIORITY_CLASSES } from '../../../src/kernel/priority.ts';

/** fast-check prints seed and path of a failure; with the same seed it fails again. */
const SEED = 20_260_101;

const ADAPTER_PAGES = [1, 1, 2, 3, 5];

const limitsArb = fc.record({
  maxBatch: fc.integer({ min: 1, max: 6 }),
  prefillTokensPerStep: fc.integer({ min: 1, max: 12 }),
  maxQueue: fc.integer({ min: 1, max: 12 }),
  maxBypass: fc.integer({ min: 0, max: 5 }),
  maxPrefillStall: fc.integer({ min: 0, max: 4 }),
  kvBudgetBytes: fc.integer({ min: 40, max: 120 }),
  bankPages: fc.integer({ min: 5, max: 9 }),
});

const arrivalArb = fc.record({
  kind: fc.constant('arrive' as const),
  priority: fc.constantFrom(...PRIORITY_CLASSES),
  promptTokens: fc.integer({ min: 1, max: 30 }),
  maxTokens: fc.integer({ min: 1, max: 8 }),
  adapters: fc.uniqueArray(fc.integer({ min: 0, max: 4 }), { maxLength: 2 }),
});

const commandArb = fc.oneof(
  { weight: 4, arbitrary: arrivalArb },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('step' as const) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('ready' as const), pick: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), pick: fc.nat(20) }) },
);

type Drawn<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Limits = Drawn<typeof limitsArb>;
type Command = Drawn<typeof commandArb>;

const newestFirst = (views: readonly SequenceView[]) => views.toSorted((a, b) => b.key - a.key);

/** Policies that are unfair on purpose: the scheduler's own bounds must hold under any. */
const POLICIES: Record<string, () => SchedulingPolicy> = {
  'first come first served': firstComeFirstServed,
  'newest first': () => ({ admissionOrder: newestFirst, prefillOrder: newestFirst, observe: () => {} }),
  scrambled: () => {
    const order = (views: readonly SequenceView[]) =>
      views.toSorted((a, b) => ((a.key * 7 + a.known * 3) % 11) - ((b.key * 7 + b.known * 3) % 11));
    return { admissionOrder: order, prefillOrder: order, observe: () => {} };
  },
};

/** What the test knows about a sequence, kept apart from the scheduler's books. */
interface Shadow {
  readonly spec: SequenceSpec;
  state: 'pending' | 'waiting' | 'running' | 'ended';
  processed: number;
  drawn: number;
  bypassed: number;
  stalled: number;
}

class Harness {
  readonly limits: Limits;
  readonly scheduler: Scheduler;
  readonly all: Shadow[] = [];
  steps = 0;

  constructor(limits: Limits, policy: SchedulingPolicy) {
    this.limits = limits;
    this.scheduler = new Scheduler(limits, policy);
  }

  in(state: Shadow['state']): Shadow[] {
    return this.all.filter((each) => each.state === state);
  }

  apply(command: Command): void {
    switch (command.kind) {
      case 'step':
        this.step();
        break;
      case 'arrive':
        this.arrive(command);
        break;
      case 'ready': {
        const shadow = choose(this.in('pending'), command.pick);
        if (shadow !== undefined) this.ready(shadow);
        break;
      }
      case 'cancel': {
        const shadow = choose(
          [...this.in('pending'), ...this.in('waiting'), ...this.in('running')],
          command.pick,
        );
        if (shadow === undefined) break;
        this.scheduler.cancel(shadow.spec.key);
        shadow.state = 'ended';
      }
    }
  }

  arrive({ priority, promptTokens, maxTokens, adapters }: Drawn<typeof arrivalArb>): void {
    const key = this.all.length;
    const kvBytes = promptTokens + maxTokens;
    const digests = adapters.map(String);
    const spec = {
      key,
      tenantId: 't',
      priority,
      adapters: digests,
      arrivedMs: 0,
      promptTokens,
      maxTokens,
      kvBytes,
    };
    const queued = this.in('pending').length + this.in('waiting').length;
    const shadow: Shadow = { spec, state: 'ended', processed: 0, drawn: 0, bypassed: 0, stalled: 0 };
    this.all.push(shadow);
    if (queued >= this.limits.maxQueue) {
      expect(() => this.scheduler.enqueue(spec)).toThrow(expect.objectContaining({ code: 'ENGINE_FULL' }));
      return;
    }
    this.scheduler.enqueue(spec);
    shadow.state = digests.length === 0 ? 'waiting' : 'pending';
  }

  ready(shadow: Shadow): void {
    const pages = shadow.spec.adapters.map((digest) => ({
      digest,
      pages: ADAPTER_PAGES[Number(digest)] ?? 1,
    }));
    const total = pages.reduce((sum, each) => sum + each.pages, 0);
    if (total > this.limits.bankPages) {
      expect(() => this.scheduler.adaptersReady(shadow.spec.key, pages)).toThrow();
      this.scheduler.cancel(shadow.spec.key);
      shadow.state = 'ended';
    } else {
      this.scheduler.adaptersReady(shadow.spec.key, pages);
      shadow.state = 'waiting';
    }
  }

  step(): void {
    const { started, rows } = this.scheduler.schedule(this.steps++);
    for (const key of started) {
      const shadow = this.shadow(key);
      equal(shadow.state, 'waiting');
      shadow.state = 'running';
      for (const other of this.in('waiting')) {
        if (other.spec.key < key) other.bypassed += 1;
        ok(other.bypassed <= this.limits.maxBypass, 'bypassed too often');
      }
    }
    this.checkCapacity();
    this.checkRows(rows);
    this.scheduler.update(rows);
    for (const row of rows) this.process(row);
  }

  process({ key, tokens, wantsLogits }: PlannedRow): void {
    const shadow = this.shadow(key);
    shadow.processed += tokens;
    if (!wantsLogits) return;
    shadow.drawn += 1;
    if (shadow.drawn < shadow.spec.maxTokens) return;
    this.scheduler.finish(key);
    shadow.state = 'ended';
  }

  checkCapacity(): void {
    const running = this.in('running');
    ok(running.length <= this.limits.maxBatch);
    const kv = running.reduce((sum, { spec }) => sum + spec.kvBytes, 0);
    ok(kv <= this.limits.kvBudgetBytes);
    const digests = new Set(running.flatMap(({ spec }) => spec.adapters));
    const pages = [...digests].reduce((sum, digest) => sum + (ADAPTER_PAGES[Number(digest)] ?? 1), 0);
    ok(pages <= this.limits.bankPages);
    const { kvBytesUsed, bankPagesUsed } = this.scheduler.counts();
    deepEqual({ kvBytesUsed, bankPagesUsed }, { kvBytesUsed: kv, bankPagesUsed: pages });
  }

  checkRows(rows: readonly PlannedRow[]): void {
    equal(new Set(rows.map(({ key }) => key)).size, rows.length);
    let prefill = 0;
    let partial = 0;
    for (const { key, past, tokens, wantsLogits } of rows) {
      const { spec, state, processed, drawn } = this.shadow(key);
      const known = spec.promptTokens + drawn;
      equal(state, 'running');
      equal(past, processed);
      ok(tokens > 0);
      ok(past + tokens <= known);
      equal(wantsLogits, past + tokens === known);
      if (past < spec.promptTokens) prefill += tokens;
      if (past > 0 && tokens > 1) partial += 1;
    }
    ok(prefill <= this.limits.prefillTokensPerStep);
    ok(partial <= 1, 'continuing chunks');
    const served = new Set(rows.map(({ key }) => key));
    for (const shadow of this.in('running')) {
      const decoding = shadow.processed >= shadow.spec.promptTokens;
      if (decoding) ok(served.has(shadow.spec.key), 'a running stream was stalled');
      shadow.stalled = served.has(shadow.spec.key) ? 0 : shadow.stalled + 1;
      const bound = this.limits.maxPrefillStall + this.limits.maxBatch;
      ok(shadow.stalled <= bound, 'a prompt was left aside');
    }
  }

  shadow(key: number): Shadow {
    const shadow = this.all[key];
    if (shadow === undefined) throw new Error(`the scheduler made up key ${key}`);
    return shadow;
  }
}

function choose(shadows: readonly Shadow[], pick: number): Shadow | undefined {
  return shadows[pick % Math.max(1, shadows.length)];
}

test.each(Object.keys(POLICIES))(
  'random traces keep every bound and end, whatever the policy: %s',
  (name) => {
    const property = fc.property(limitsArb, fc.array(commandArb, { maxLength: 80 }), (limits, commands) => {
      const harness = new Harness(limits, POLICIES[name]?.() ?? firstComeFirstServed());
      for (const command of commands) harness.apply(command);
      for (const shadow of harness.in('pending')) harness.ready(shadow);
      // Every step gives at least one token of progress, so the work left bounds the steps left.
      const left = [...harness.in('waiting'), ...harness.in('running')].reduce(
        (sum, { spec, processed }) => sum + spec.promptTokens + spec.maxTokens - processed,
        0,
      );
      for (let i = 0; i < left; i++) harness.step();
      expect(harness.in('ended')).toHaveLength(harness.all.length);
      expect(harness.scheduler.counts()).toEqual({
        waiting: 0,
        pending: 0,
        running: 0,
        kvBytesUsed: 0,
        bankPagesUsed: 0,
      });
    });
    fc.assert(property, { seed: SEED, numRuns: 1000 });
  },
);
