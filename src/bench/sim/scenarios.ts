import { SCHEDULING_POLICIES, type SchedulingPolicyName } from '../../engine/options.ts';
import { namedPolicy } from '../../engine/policies/named.ts';
import { DEFAULT_ALLOWANCE } from '../../engine/policies/vtc.ts';
import { counterBound, SERVICE_WEIGHTS } from '../../engine/service-cost.ts';
import type { PriorityClass } from '../../kernel/priority.ts';
import { byAdapter, byTenant, ServiceLedger } from './ledger.ts';
import { attained, goodput, quantile, throughput, ttfts } from './metrics.ts';
import { SIM_LIMITS, SIM_TARGETS, type SimCosts, saturation, simOptions } from './setup.ts';
import { type SimResult, simulate } from './simulate.ts';
import { type Client, traceOf } from './trace.ts';

/** A simulation's costs, seed and length. */
export interface ScenarioOptions {
  readonly costs: SimCosts;
  readonly seed: number;
  /** Simulated time of each run, in milliseconds. */
  readonly untilMs: number;
}

const KIND = {
  priority: 'STANDARD',
  promptTokens: [64, 192],
  newTokens: [64, 128],
  adapters: { count: 16, zipf: 1 },
} satisfies Omit<Client, 'name' | 'rate'>;

/** Part of the saturated rate with one adapter that 16 distinct adapters leave, rounded down. */
const DISTINCT = 0.85;

/** Requests of {@link KIND} per second that the engine serves at most. */
export function capacity(costs: SimCosts): number {
  const kind = { client: 'c', priority: 'STANDARD', adapter: null, promptTokens: 128 } as const;
  return DISTINCT * saturation(costs, { ...kind, newTokens: 96, maxTokens: 96 });
}

/** What one policy gave on the fairness traces. */
export interface FairnessRow {
  readonly policy: SchedulingPolicyName;
  /** Largest difference of service between two backlogged tenants, in tokens. */
  readonly tenantDifference: number;
  /** The same between two adapters of a tenant. */
  readonly adapterDifference: number;
  /** p95 of the quiet client's TTFT while all stay within their shares, and while the others do not; ms. */
  readonly withinMs: number;
  readonly overloadedMs: number;
  readonly tokensPerSecond: number;
}

/** The bound on the differences of {@link FairnessRow}, twice that of counters. */
export function fairnessBound({ adapters }: SimCosts): number {
  const largest = {
    rows: SIM_LIMITS.maxBatch,
    promptTokens: KIND.promptTokens[1],
    newTokens: KIND.newTokens[1],
    pages: adapters.pages,
    bytesLoaded: adapters.bytes,
    prefillTokensPerStep: SIM_LIMITS.prefillTokensPerStep,
    kvTokens: SIM_LIMITS.kvBudgetBytes,
    leastWeight: 1,
  };
  // Rows are the only scarce thing on these traces, so nobody is overtaken because he does not fit.
  return 2 * counterBound(largest, 0, SERVICE_WEIGHTS);
}

/** One client below its share beside one that overloads, one that goes on and off, and one whose rate shifts. */
export function fairness({ costs, seed, untilMs }: ScenarioOptions): FairnessRow[] {
  const share = capacity(costs) / 4;
  const client = (name: string, rate: Client['rate']): Client => ({ ...KIND, name, rate });
  const on = (atMs: number): boolean => atMs % 120_000 < 60_000;
  const quiet = client('quiet', () => 0.5 * share);
  const within = [
    quiet,
    client('steady', () => share),
    client('bursty', (atMs) => (on(atMs) ? 2 * share : 0)),
    client('shifting', () => share),
  ];
  const overloaded = [
    quiet,
    client('steady', () => 3 * share),
    client('bursty', (atMs) => (on(atMs) ? 4 * share : 0)),
    client('shifting', (atMs) => (atMs < untilMs / 2 ? 0.5 : 2.5) * share),
  ];
  return SCHEDULING_POLICIES.map((policy) => {
    const run = (clients: readonly Client[]) => {
      const tenants = new ServiceLedger(byTenant);
      const adapters = new ServiceLedger(byAdapter);
      const watched = tenants.watch(adapters.watch(namedPolicy(policy)));
      const options = simOptions(costs, { policy: watched, untilMs });
      return { tenants, adapters, result: simulate(traceOf(clients, untilMs, seed), options) };
    };
    const p95 = ({ records }: SimResult): number =>
      quantile(ttfts(records.filter(({ request }) => request.client === 'quiet')), 0.95);
    const withinMs = p95(run(within).result);
    const { tenants, adapters, result } = run(overloaded);
    return {
      policy,
      tenantDifference: tenants.maxDifference,
      adapterDifference: adapters.maxDifference,
      withinMs,
      overloadedMs: p95(result),
      tokensPerSecond: throughput(result),
    };
  });
}

export interface MixedRow {
  readonly policy: SchedulingPolicyName;
  /** Share of interactive requests that were answered in time; a refused one was not. */
  readonly attainment: number;
  readonly batchTokensPerSecond: number;
  /** Batch tokens per second of a batch-only run, times what the interactive requests leave of the engine. */
  readonly leftTokensPerSecond: number;
  readonly preemptions: number;
}

/** Interactive requests for half of the engine and batch requests for all of it: 1.5 times its capacity. */
export function mixed({ costs, seed, untilMs }: ScenarioOptions): MixedRow[] {
  const rate = capacity(costs);
  const chat = (name: string): Client => ({
    ...KIND,
    name,
    priority: 'INTERACTIVE',
    rate: () => rate / 4,
  });
  // As many tokens, in answers that are 3.3 times as long.
  const bulk: Client = {
    ...KIND,
    name: 'bulk',
    priority: 'BATCH',
    rate: () => (rate * 96) / 320,
    newTokens: [128, 512],
  };
  return SCHEDULING_POLICIES.map((policy) => {
    const run = (clients: readonly Client[]): SimResult =>
      simulate(
        traceOf(clients, untilMs, seed),
        simOptions(costs, { policy: namedPolicy(policy), targets: SIM_TARGETS, maxWaitPercent: 50, untilMs }),
      );
    const result = run([chat('chat-1'), chat('chat-2'), bulk]);
    const flooded = run([{ ...bulk, rate: () => rate }]);
    // Those of the last seconds had no time to end.
    const judged = ofClass(result, 'INTERACTIVE').filter(({ request }) => request.atMs < untilMs - 20_000);
    return {
      policy,
      attainment: judged.filter((record) => attained(record, SIM_TARGETS)).length / judged.length,
      batchTokensPerSecond: (1_000 * tokensOf(ofClass(result, 'BATCH'))) / result.endMs,
      leftTokensPerSecond: throughput(flooded) / 2,
      preemptions: result.preemptions,
    };
  });
}

export interface OverloadRow {
  /** Offered load relative to capacity. */
  readonly load: number;
  readonly refusedShare: number;
  /** Tokens per second of requests that were answered in time. */
  readonly goodput: number;
  readonly tokensPerSecond: number;
  /** The same with refusals only when the queue is full. */
  readonly goodputUnrefused: number;
}

/** Two interactive and two standard clients at growing load, with early refusal and without. */
export function overload({ costs, seed, untilMs }: ScenarioOptions): OverloadRow[] {
  const rate = capacity(costs);
  const targets = { ...SIM_TARGETS, STANDARD: { ttftMs: 5_000, interTokenMs: 1_000 } };
  return [0.5, 1, 2, 3].map((load) => {
    const clients = Array.from({ length: 4 }, (_, index): Client => {
      const priority = index < 2 ? 'INTERACTIVE' : 'STANDARD';
      return { ...KIND, name: `client-${index}`, priority, rate: () => (load * rate) / 4 };
    });
    const run = (maxWaitPercent: number): SimResult =>
      simulate(
        traceOf(clients, untilMs, seed),
        simOptions(costs, { policy: namedPolicy('fair'), targets, maxWaitPercent, untilMs }),
      );
    const result = run(50);
    return {
      load,
      refusedShare: result.records.filter(({ refused }) => refused).length / result.records.length,
      goodput: goodput(result, targets),
      tokensPerSecond: throughput(result),
      goodputUnrefused: goodput(run(0), targets),
    };
  });
}

export interface BankRow {
  /** Distinct adapters in use relative to those that fit into the bank. */
  readonly ratio: number;
  readonly tokensPerSecond: number;
  /** Longest time from arrival to first token relative to its mean. */
  readonly worstWait: number;
}

/** A bank of half the rows, and ever more adapters that are equally popular, at twice the engine's capacity. */
export function bank({ costs, seed, untilMs }: ScenarioOptions): BankRow[] {
  const rate = capacity(costs);
  const slots = SIM_LIMITS.maxBatch / 2;
  const limits = { ...SIM_LIMITS, bankPages: slots * costs.adapters.pages };
  return [1, 2, 4, 8].map((ratio) => {
    const clients = Array.from({ length: 4 }, (_, index): Client => {
      const adapters = { count: (slots * ratio) / 4, zipf: 0 };
      return { ...KIND, name: `client-${index}`, adapters, rate: () => rate / 2 };
    });
    const result = simulate(
      traceOf(clients, untilMs, seed),
      simOptions(costs, { policy: namedPolicy('fair'), limits, untilMs }),
    );
    const waits = ttfts(result.records);
    const mean = waits.reduce((sum, wait) => sum + wait, 0) / waits.length;
    return { ratio, tokensPerSecond: throughput(result), worstWait: quantile(waits, 1) / mean };
  });
}

function ofClass({ records }: SimResult, priority: PriorityClass): SimResult['records'] {
  return records.filter(({ request }) => request.priority === priority);
}

function tokensOf(records: SimResult['records']): number {
  return records.reduce((sum, { tokens }) => sum + tokens, 0);
}

/** The allowance that runs with scarce memory add to {@link fairnessBound}. */
export const MEMORY_ALLOWANCE = 2 * DEFAULT_ALLOWANCE;
