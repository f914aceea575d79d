import { namedPolicy } from '../../engine/policies/named.ts';
import { adapterDraws } from '../diversity/requests.ts';
import type { Law, SimulatedPoint } from '../diversity/schema.ts';
import { quantile, ttfts } from './metrics.ts';
import { type SimCosts, simOptions } from './setup.ts';
import { simulate } from './simulate.ts';

/** A closed loop like the measured one. */
export interface DiversityLoad {
  readonly streams: number;
  /** That are counted. */
  readonly requests: number;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly seed: number;
}

/** Requests that fill the caches and are not counted, for each adapter that the host cache holds or there is. */
const WARM_UP = 4;

/** Plays a closed loop over so many adapters against the engine's scheduler. */
export function simulateDiversity(
  costs: SimCosts,
  load: DiversityLoad,
  { adapters, law }: { readonly adapters: number; readonly law: Law },
): SimulatedPoint {
  const first = load.streams + WARM_UP * Math.min(adapters, costs.adapters.hostAdapters);
  const trace = adapterDraws({ adapters, law }, load.seed, first + load.requests).map((adapter) => ({
    atMs: 0,
    client: 'bench',
    priority: 'STANDARD' as const,
    adapter: String(adapter),
    promptTokens: load.promptTokens,
    newTokens: load.newTokens,
    maxTokens: load.newTokens,
  }));
  const tokens: { readonly atMs: number; readonly gapMs: number | null }[] = [];
  const { records } = simulate(
    trace,
    simOptions(costs, {
      policy: namedPolicy('fair'),
      streams: load.streams,
      untilMs: Number.POSITIVE_INFINITY,
      onToken: (atMs, gapMs) => tokens.push({ atMs, gapMs }),
    }),
  );
  const counted = records.slice(first);
  // From the first counted request to the last: before, the caches are filled, and after, rows fall empty.
  const fromMs = counted[0]?.request.atMs ?? 0;
  const toMs = counted.at(-1)?.request.atMs ?? 0;
  const within = tokens.filter(({ atMs }) => atMs > fromMs && atMs <= toMs);
  const gaps = within.flatMap(({ gapMs }) => gapMs ?? []);
  const waits = ttfts(counted);
  return {
    adapters,
    law,
    tokensPerSecond: (within.length / (toMs - fromMs)) * 1_000,
    ttftMs: { p50: quantile(waits, 0.5), p95: quantile(waits, 0.95) },
    interTokenMs: { p50: quantile(gaps, 0.5), p95: quantile(gaps, 0.95) },
    loadsPerRequest: counted.filter(({ loaded }) => loaded).length / counted.length,
  };
}

/** Measured throughput of three numbers of adapters, each of which shows one of the costs. */
export interface Measured {
  /** One adapter: the step without diversity. */
  readonly step: { readonly adapters: number; readonly tokensPerSecond: number };
  /** As many as fit into the host cache: the pages that a step reads. */
  readonly page: { readonly adapters: number; readonly tokensPerSecond: number };
  /** More than fit: what loads take from the steps beside them. */
  readonly load: { readonly adapters: number; readonly tokensPerSecond: number };
}

/** Most that a fitted cost may be, in milliseconds. */
const MOST_MS = { page: 20, load: 500 };

/**
 * Fits three figures to what was measured, one after the other, each to the point at which it matters: a factor on all
 * costs of a step, the cost of a page, and what a load takes from the steps.
 */
export function fitCosts(costs: SimCosts, load: DiversityLoad, measured: Measured): SimCosts {
  const rate = (candidate: SimCosts, adapters: number): number =>
    simulateDiversity(candidate, load, { adapters, law: 'uniform' }).tokensPerSecond;
  const scaled = (factor: number): SimCosts => ({
    adapters: { ...costs.adapters, loadStepMs: 0 },
    step: {
      stepMs: costs.step.stepMs * factor,
      decodeRowMs: costs.step.decodeRowMs * factor,
      prefillTokenMs: costs.step.prefillTokenMs * factor,
      pageMs: costs.step.pageMs * factor,
      contextTokenMs: costs.step.contextTokenMs * factor,
    },
  });
  const factor = solve(1e-3, 1e3, measured.step, (value) => rate(scaled(value), measured.step.adapters));
  const stepped = scaled(factor);
  const paged = (pageMs: number): SimCosts => ({ ...stepped, step: { ...stepped.step, pageMs } });
  const pageMs = solve(0, MOST_MS.page, measured.page, (value) => rate(paged(value), measured.page.adapters));
  const fitted = paged(pageMs);
  const loading = (loadStepMs: number): SimCosts => ({
    ...fitted,
    adapters: { ...fitted.adapters, loadStepMs },
  });
  const loadMs = solve(0, MOST_MS.load, measured.load, (value) =>
    rate(loading(value), measured.load.adapters),
  );
  return loading(loadMs);
}

const HALVINGS = 12;

/** The cost at which the simulated throughput, which falls with it, is the measured one; the nearer end if none is. */
function solve(
  least: number,
  most: number,
  { tokensPerSecond }: { readonly tokensPerSecond: number },
  rate: (cost: number) => number,
): number {
  let [low, high] = [least, most];
  for (let i = 0; i < HALVINGS; i++) {
    // Costs of factors span magnitudes, so they are halved on a logarithmic scale.
    const middle = least > 0 ? Math.sqrt(low * high) : (low + high) / 2;
    if (rate(middle) > tokensPerSecond) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}
