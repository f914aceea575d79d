import { deepEqual, equal, ok } from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StepCostModel } from '../../../src/engine/cost-model.ts';
import { firstComeFirstServed, ordered } from '../../../src/engine/policies/ordered.ts';
import { roundRobin } from '../../../src/engine/policies/round-robin.ts';
import { virtualTokenCounters } from '../../../src/engine/policies/vtc.ts';
import type { SchedulingPolicy } from '../../../src/engine/policy.ts';
import { type PlannedRow, Scheduler, type SequenceSpec } from '../../../src/engine/scheduler.ts';
import { PRIORITY_CLASSES, type PriorityClass } from '../../../src/kernel/priority.ts';

/** fast-check prints seed and path of a failure; with the same seed it fails again. */
const SEED = 20_260_101;

const ADAPTER_PAGES = [1, 1, 2, 3, 5];

/** Every step takes a millisecond. */
const UNIT_COSTS = { stepMs: 1, decodeRowMs: 0, prefillTokenMs: 0, pageMs: 0, contextTokenMs: 0 };

const limitsArb = fc.record({
  maxBatch: fc.integer({ min: 1, max: 6 }),
  prefillTokensPerStep: fc.integer({ min: 1, max: 12 }),
  maxQueue: fc.integer({ min: 1, max: 12 }),
  queueShare: fc.constant(0),
  maxBypass: fc.integer({ min: 0, max: 5 }),
  maxPreemptions: fc.integer({ min: 0, max: 3 }),
  maxPrefillStall: fc.integer({ min: 0, max: 4 }),
  kvBudgetBytes: fc.integer({ min: 45, max: 160 }),
  bankPages: fc.integer({ min: 5, max: 9 }),
  interactiveTtft: fc.constantFrom(1, 1, 6, Number.POSITIVE_INFINITY),
  standardTtft: fc.constantFrom(1, 10, 30, Number.POSITIVE_INFINITY),
});

const arrivalArb = fc.record({
  kind: fc.constant('arrive' as const),
  priority: fc.constantFrom(...PRIORITY_CLASSES),
  promptTokens: fc.integer({ min: 1, max: 30 }),
  /** Of its prompt, as far as that is long enough, what is in memory when it starts. */
  prefix: fc.constantFrom(0, 0, 8, 16, 29),
  maxTokens: fc.integer({ min: 1, max: 12 }),
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

/** Some are unfair on purpose: the scheduler's own bounds must hold under any. */
const POLICIES: Record<string, SchedulingPolicy> = {
  'first come first served': firstComeFirstServed,
  'round robin': roundRobin,
  'virtual token counters': virtualTokenCounters({ allowance: 20 }),
  'newest first': ordered((a, b) => b.key - a.key),
  scrambled: ordered((a, b) => ((a.key * 7) % 11) - ((b.key * 7) % 11) || a.key - b.key),
};

/** What the test knows about a sequence, kept apart from the scheduler's books. */
interface Shadow {
  readonly spec: SequenceSpec;
  state: 'pending' | 'waiting' | 'running' | 'ended';
  started: boolean;
  holdsKv: boolean;
  readonly prefix: number;
  processed: number;
  /** The most tokens that were ever processed: what comes again below that is redone. */
  computed: number;
  drawn: number;
  preempted: number;
  /** Step of the last preemption. */
  stoppedAt: number;
  /** Later arrivals of its class that started before it while it was ready. */
  bypassed: number;
  stalled: number;
}

class Harness {
  readonly limits: Limits;
  readonly scheduler: Scheduler;
  readonly all: Shadow[] = [];
  readonly #inOrder: boolean;
  /** Starts of more urgent classes since one of the class, by class. */
  readonly #passed = { INTERACTIVE: 0, STANDARD: 0, BATCH: 0 };
  steps = 0;
  preemptions = 0;

  constructor(limits: Limits, policy: SchedulingPolicy) {
    this.limits = limits;
    this.#inOrder = policy === firstComeFirstServed;
    const { interactiveTtft, standardTtft } = limits;
    const costs = new StepCostModel(UNIT_COSTS, {
      decodeRows: 0,
      prefillTokens: 0,
      pages: 0,
      contextTokens: 0,
    });
    const target = (ttftMs: number) => ({ ttftMs, interTokenMs: Number.POSITIVE_INFINITY });
    this.scheduler = new Scheduler(limits, {
      policy,
      costs,
      prefixTokens: (key) => this.shadow(key).prefix,
      targets: {
        INTERACTIVE: target(interactiveTtft),
        STANDARD: target(standardTtft),
        BATCH: target(Number.POSITIVE_INFINITY),
      },
    });
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
        for (const each of PRIORITY_CLASSES) if (!this.waits(each)) this.#passed[each] = 0;
      }
    }
  }

  arrive({ priority, promptTokens, prefix, maxTokens, adapters }: Drawn<typeof arrivalArb>): void {
    const key = this.all.length;
    const kvBytes = promptTokens + maxTokens;
    const digests = adapters.map(String);
    const spec = {
      key,
      tenantId: 't',
      priority,
      adapters: digests,
      arrivedMs: this.steps,
      promptTokens,
      maxTokens,
      kvBytes,
    };
    const queued = this.in('pending').length + this.in('waiting').filter(({ started }) => !started).length;
    const shadow: Shadow = {
      spec,
      state: 'ended',
      started: false,
      holdsKv: false,
      prefix: Math.min(prefix, promptTokens - 1),
      processed: 0,
      computed: 0,
      drawn: 0,
      preempted: 0,
      stoppedAt: -1,
      bypassed: 0,
      stalled: 0,
    };
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
    const { paused, evicted, started, opened, rows } = this.scheduler.schedule(this.steps++);
    for (const key of [...paused, ...evicted]) this.stop(this.shadow(key), evicted.includes(key));
    for (const key of started) this.start(this.shadow(key), !opened.includes(key));
    this.checkCapacity();
    this.checkRows(rows);
    this.scheduler.update(rows);
    for (const row of rows) this.process(row);
  }

  /** The plan names who moved and not in which order; so a sequence may be stopped before it is seen to start. */
  stop(shadow: Shadow, evicted: boolean): void {
    if (shadow.state === 'running') {
      this.preemptions += 1;
      shadow.preempted += 1;
      shadow.stoppedAt = this.steps;
      shadow.stalled = 0;
      shadow.state = 'waiting';
      ok(shadow.preempted <= this.limits.maxPreemptions, 'preempted too often');
      ok(shadow.spec.priority !== 'INTERACTIVE');
    } else ok(evicted && shadow.holdsKv, 'only who runs is paused');
    if (evicted) {
      shadow.holdsKv = false;
      shadow.processed = 0;
    }
  }

  start(shadow: Shadow, resumed: boolean): void {
    const { key, priority } = shadow.spec;
    equal(shadow.state, 'waiting');
    equal(shadow.holdsKv, resumed);
    shadow.state = 'running';
    shadow.started = true;
    shadow.holdsKv = true;
    if (!resumed) shadow.processed = shadow.prefix;
    const rank = PRIORITY_CLASSES.indexOf(priority);
    PRIORITY_CLASSES.forEach((other, index) => {
      if (index === rank || !this.waits(other)) this.#passed[other] = 0;
      else if (index > rank) this.#passed[other] += 1;
      ok(this.#passed[other] <= 2 * Math.max(1, this.limits.maxBypass) + 1, 'a class was passed too often');
    });
    if (!this.#inOrder) return;
    for (const other of this.in('waiting')) {
      const passed = other.spec.key < key && other.stoppedAt < this.steps;
      if (passed && other.spec.priority === priority) other.bypassed += 1;
      ok(other.bypassed <= this.limits.maxBypass, 'bypassed too often');
    }
  }

  /** Whether somebody of the class waits who did so before this step. */
  waits(priority: PriorityClass): boolean {
    return this.in('waiting').some(
      ({ spec, stoppedAt }) => spec.priority === priority && stoppedAt < this.steps,
    );
  }

  process({ key, tokens, past, redone, wantsLogits }: PlannedRow): void {
    const shadow = this.shadow(key);
    equal(redone, Math.max(0, Math.min(past + tokens, shadow.computed) - past));
    shadow.processed += tokens;
    shadow.computed = Math.max(shadow.computed, shadow.processed);
    if (!wantsLogits) return;
    shadow.drawn += 1;
    if (shadow.drawn < shadow.spec.maxTokens) return;
    this.scheduler.finish(key);
    shadow.state = 'ended';
  }

  checkCapacity(): void {
    const running = this.in('running');
    ok(running.length <= this.limits.maxBatch);
    const holding = this.all.filter(({ state, holdsKv }) => state !== 'ended' && holdsKv);
    const kv = holding.reduce((sum, { spec }) => sum + spec.kvBytes, 0);
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
    for (const { key, past, tokens, wantsLogits } of rows) {
      const { spec, state, processed, drawn } = this.shadow(key);
      const known = spec.promptTokens + drawn;
      equal(state, 'running');
      equal(past, processed);
      ok(tokens > 0);
      ok(past + tokens <= known);
      equal(wantsLogits, past + tokens === known);
      if (past < spec.promptTokens || tokens > 1) prefill += tokens;
    }
    ok(prefill <= this.limits.prefillTokensPerStep);
    const served = new Set(rows.map(({ key }) => key));
    for (const shadow of this.in('running')) {
      const decoding =
        shadow.processed >= shadow.spec.promptTokens &&
        shadow.processed === shadow.spec.promptTokens + shadow.drawn - 1;
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
    let preemptions = 0;
    const property = fc.property(
      limitsArb,
      fc.array(commandArb, { maxLength: 80, size: 'max' }),
      (limits, commands) => {
        const harness = new Harness(limits, POLICIES[name] ?? firstComeFirstServed);
        for (const command of commands) harness.apply(command);
        for (const shadow of harness.in('pending')) harness.ready(shadow);
        // Every step gives at least one token of progress, so the work left bounds the steps left.
        const left = [...harness.in('waiting'), ...harness.in('running')].reduce(
          (sum, { spec }) => sum + (spec.promptTokens + spec.maxTokens) * (1 + harness.limits.maxPreemptions),
          0,
        );
        for (let i = 0; i < left; i++) harness.step();
        expect(harness.in('ended')).toHaveLength(harness.all.length);
        preemptions += harness.preemptions;
        expect(harness.scheduler.counts()).toEqual({
          waiting: 0,
          pending: 0,
          running: 0,
          kvBytesUsed: 0,
          bankPagesUsed: 0,
        });
      },
    );
    fc.assert(property, { seed: SEED, numRuns: 500 });
    expect(preemptions).toBeGreaterThan(100);
  },
);
