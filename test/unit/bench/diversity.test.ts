import { describe, expect, test } from 'vitest';
import {
  bendOf,
  causesOf,
  costPerMillion,
  noiseOf,
  seriesOf,
  spread,
} from '../../../src/bench/diversity/analyse.ts';
import { render } from '../../../src/bench/diversity/document.ts';
import { addUpdate } from '../../../src/bench/diversity/merge.ts';
import { planOf, ranksOf, roundOrder, storesOf } from '../../../src/bench/diversity/plan.ts';
import { closedLoop, diversityRequests } from '../../../src/bench/diversity/requests.ts';
import { type PointSpec, resultsSchema } from '../../../src/bench/diversity/schema.ts';
import { simulationOf } from '../../../src/bench/diversity/simulation.ts';
import { svgPlot } from '../../../src/bench/diversity/svg.ts';
import { simulateDiversity } from '../../../src/bench/sim/diversity.ts';
import { DEFAULT_SIM_COSTS, SIM_LIMITS } from '../../../src/bench/sim/setup.ts';
import { madeUpResults } from './diversity-results.ts';

const SPEC: PointSpec = {
  system: 'patchbay',
  adapters: 50,
  law: 'uniform',
  ranks: [8],
  priorities: 'one',
  streams: 16,
  requests: 40,
};
const LINE = { system: 'patchbay', law: 'uniform', ranks: [8], priorities: 'one', streams: 16 } as const;

describe('plan', () => {
  test('covers one to 2,000 adapters, both laws, ranks, classes and every alternative', () => {
    const { points, simulated } = planOf('default', { peer: true });
    const own = points.filter(({ system }) => system === 'patchbay');
    expect(Math.min(...own.map(({ adapters }) => adapters))).toBe(1);
    expect(Math.max(...own.map(({ adapters }) => adapters))).toBe(2_000);
    expect(new Set(points.map(({ system }) => system)).size).toBe(4);
    expect(own.some(({ law }) => law === 'zipf')).toBe(true);
    expect(own.some(({ ranks }) => ranks.length > 1)).toBe(true);
    expect(own.some(({ priorities }) => priorities === 'mixed')).toBe(true);
    expect(Math.max(...simulated)).toBe(100_000);
    expect(planOf('default', { peer: false }).points.some(({ system }) => system === 'peer')).toBe(false);
  });

  test('has no point twice, and goes through them backwards every other round', () => {
    for (const size of ['quick', 'default', 'full'] as const) {
      const { points } = planOf(size, { peer: true });
      expect(new Set(points.map((point) => JSON.stringify(point))).size).toBe(points.length);
      expect(roundOrder(points, 2)).toEqual(points.toReversed());
    }
  });

  test('names the largest store of each list of ranks', () => {
    const stores = storesOf(planOf('default', { peer: true }).points);
    expect([...stores].map(([ranks, { adapters }]) => [ranks, adapters])).toEqual([
      ['8', 2_000],
      ['8,16,40,64', 2_000],
      ['32', 16],
    ]);
    expect(ranksOf({ adapters: 5, ranks: [8, 16] })).toEqual([8, 16, 8, 16, 8]);
  });
});

describe('load', () => {
  const job = (spec: PointSpec, round = 1) => ({ spec, round, load: madeUpResults().load });

  test('is the same for every system of a round, and another in the next', () => {
    const own = diversityRequests(job(SPEC), 4096);
    expect(diversityRequests(job({ ...SPEC, system: 'swap' }), 4096)).toEqual(own);
    expect(diversityRequests(job(SPEC, 2), 4096)).not.toEqual(own);
    expect(new Set(own.map(({ promptIds }) => promptIds.join())).size).toBe(own.length);
    expect(new Set(own.map(({ priority }) => priority))).toEqual(new Set(['STANDARD']));
  });

  test('draws from all adapters, under Zipf’s law mostly the first, and from all classes', () => {
    const many = { ...SPEC, requests: 2_000 };
    const share = (law: 'uniform' | 'zipf') =>
      diversityRequests(job({ ...many, law }), 64).filter(({ adapter }) => adapter === 0).length / 2_000;
    expect(share('uniform')).toBeLessThan(0.05);
    expect(share('zipf')).toBeGreaterThan(0.12);
    const mixed = diversityRequests(job({ ...many, priorities: 'mixed' }), 64);
    for (const priority of ['INTERACTIVE', 'STANDARD', 'BATCH']) {
      const own = mixed.filter((request) => request.priority === priority);
      expect(own.length / mixed.length).toBeCloseTo(1 / 3, 1);
    }
  });

  test('keeps as many requests in flight as there are streams, and serves each once', async () => {
    const requests = diversityRequests(job(SPEC), 64);
    let flying = 0;
    let most = 0;
    const { served } = await closedLoop(requests, 7, async () => {
      flying += 1;
      most = Math.max(most, flying);
      await new Promise((resolve) => setImmediate(resolve));
      flying -= 1;
      return { ttftMs: 1, gapsMs: [], tokens: 1 };
    });
    expect(most).toBe(7);
    expect(served.map(({ request }) => request.number).sort((a, b) => a - b)).toEqual(
      requests.map(({ number }) => number),
    );
  });
});

test('merging adds scale · B A, for ranks that are no multiple of what is done at once', () => {
  for (const rank of [1, 4, 6]) {
    const [width, height] = [3, 5];
    const fill = (length: number, seed: number) =>
      Float32Array.from({ length }, (_, i) => Math.sin(seed + i * 1.7));
    const [weight, a, b] = [fill(width * height, 1), fill(rank * width, 2), fill(height * rank, 3)];
    const merged = addUpdate(weight, { layer: 0, target: 'q_proj', rank, scale: 2, a, b });
    for (let row = 0; row < height; row++) {
      for (let k = 0; k < width; k++) {
        let sum = weight[row * width + k] ?? 0;
        for (let r = 0; r < rank; r++) sum += 2 * (b[row * rank + r] ?? 0) * (a[r * width + k] ?? 0);
        expect(merged[row * width + k]).toBeCloseTo(sum, 4);
      }
    }
  }
});

describe('analysis', () => {
  const { samples } = madeUpResults();
  const points = seriesOf(samples, LINE);

  test('takes medians and ranges over the rounds, and one adapter for both laws', () => {
    expect(spread([3, 1, 2])).toEqual({ median: 2, least: 1, most: 3 });
    expect(spread([1, 3])).toEqual({ median: 2, least: 1, most: 3 });
    expect(points[0]?.tokensPerSecond).toEqual({ median: 602, least: 601, most: 603 });
    expect(seriesOf(samples, { ...LINE, law: 'zipf' })[0]).toEqual(points[0]);
  });

  test('finds the bend and why, from what was counted', () => {
    const bend = bendOf(points, 0.9);
    expect(bend.at?.adapters).toBe(256);
    expect(bend.steepest?.to.adapters).toBe(256);
    const [one, four, fits, more] = [1, 4, 64, 256].map((adapters) =>
      points.find((point) => point.adapters === adapters),
    );
    if (!one || !four || !fits || !more) throw new Error('a point is missing');
    expect(causesOf(fits, more)).toEqual(['loads']);
    expect(causesOf(one, four)).toEqual(['pages']);
    expect(causesOf(fits, fits)).toEqual(['unknown']);
    expect(bendOf(points.slice(0, 3), 0.9).at).toBeNull();
  });

  test('a dip that recovers is no bend', () => {
    const dip = points.slice(0, 3).map((point, index) => ({
      ...point,
      tokensPerSecond: spread([index === 1 ? 100 : 600]),
    }));
    expect(bendOf(dip, 0.9).at).toBeNull();
    expect(bendOf(dip, 0.9).steepest?.share).toBeCloseTo(1 / 6);
  });

  test('costs and noise', () => {
    expect(costPerMillion(0.36, 100)).toBeCloseTo(1);
    expect(noiseOf(samples)?.median).toBeGreaterThan(0);
    expect(noiseOf(samples.filter(({ round }) => round === 1))).toBeNull();
  });
});

describe('simulation', () => {
  test('a closed loop keeps its rows full, and loads grow with the adapters', () => {
    const load = { streams: 16, requests: 200, promptTokens: 16, newTokens: 16, seed: 1 };
    const costs = { ...DEFAULT_SIM_COSTS, adapters: { ...DEFAULT_SIM_COSTS.adapters, hostAdapters: 32 } };
    const [one, some, many] = [1, 16, 100_000].map((adapters) =>
      simulateDiversity(costs, load, { adapters, law: 'uniform' }),
    );
    if (!one || !some || !many) throw new Error('a point is missing');
    const { stepMs, decodeRowMs } = costs.step;
    const bound = (SIM_LIMITS.maxBatch / (stepMs + SIM_LIMITS.maxBatch * decodeRowMs)) * 1_000;
    expect(one.tokensPerSecond).toBeLessThan(bound);
    expect(one.tokensPerSecond).toBeGreaterThan(bound / 3);
    expect(one.loadsPerRequest).toBe(0);
    expect(some.tokensPerSecond).toBeLessThan(one.tokensPerSecond);
    expect(many.loadsPerRequest).toBeGreaterThan(0.99);
  });

  test('is fitted to the measurements, and reaches 100,000 adapters', () => {
    const results = madeUpResults();
    const plan = { simulated: [1, 64, 2_000, 100_000], simulatedRequests: 100 };
    const load = { ...results.load, promptTokens: 8, newTokens: 8 };
    const simulation = simulationOf({ ...results, load }, DEFAULT_SIM_COSTS, plan);
    if (simulation === null) throw new Error('nothing was simulated');
    expect(simulation.fitted).toEqual({ step: 1, page: 64, load: 2_000 });
    const rate = (adapters: number) =>
      simulation.points.find((point) => point.adapters === adapters)?.tokensPerSecond ?? 0;
    expect(rate(1) / 602).toBeCloseTo(1, 1);
    expect(rate(100_000)).toBeGreaterThan(0);
    expect(resultsSchema.parse({ ...results, simulation }).simulation).toEqual(simulation);
    expect(render({ ...results, simulation }).get('diversity.md')).toContain(
      '## Simulated, to 100,000 adapters',
    );
  });
});

describe('document', () => {
  const results = madeUpResults();
  const files = render(results);
  const text = files.get('diversity.md') ?? '';

  test('is made of the results alone, and refers to plots that exist', () => {
    expect(render(resultsSchema.parse(JSON.parse(JSON.stringify(results))))).toEqual(files);
    const shown = [...text.matchAll(/\]\((diversity\/[a-z-]+\.svg)\)/g)].map(([, path]) => path);
    expect(new Set(shown)).toEqual(new Set([...files.keys()].filter((path) => path.endsWith('.svg'))));
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    for (const file of files.values()) expect(file).not.toContain('NaN');
  });

  test('says where it bends, and what the alternatives need', () => {
    expect(text).toContain('With uniform popularity throughput bends at 256 adapters');
    expect(text).toContain('the loads went from 0 to 60.9 for 100 requests');
    expect(text).toContain('| 2,000 | 652 | – | – | 466 GiB | 20 |');
    expect(text).toContain('abc1234');
  });

  test('claims no bend where there is none, and warns of a busy machine and a quick run', () => {
    const flat = { ...results, samples: results.samples.filter(({ spec }) => spec.adapters <= 64) };
    const calm = render(flat).get('diversity.md');
    expect(calm).toContain('throughput does not bend');
    expect(calm).not.toContain('quick run');
    const machine = { ...results.machine, loadAverage: 3 };
    const busy = render({ ...results, size: 'quick', machine }).get('diversity.md');
    expect(busy).toContain('This was a quick run');
    expect(busy).toContain('The machine was not quiet');
  });

  test('leaves out what was not measured', () => {
    const own = { ...results, samples: results.samples.filter(({ spec }) => spec.system === 'patchbay') };
    const alone = render(own).get('diversity.md') ?? '';
    expect(alone).not.toContain('## The alternatives');
    expect(alone).not.toMatch(/NaN|undefined|Infinity/);
  });
});

test('a plot escapes its text and has a white background and a logarithmic axis', () => {
  const svg = svgPlot({
    title: 'a < b & c',
    xLabel: 'x',
    yLabel: 'y',
    yScale: 'linear',
    series: [{ name: '"line"', color: '#000000', points: [1, 10, 100].map((x) => ({ x, y: x })) }],
  });
  expect(svg).toContain('a &lt; b &amp; c');
  expect(svg).toContain('fill="#ffffff"');
  const places = /polyline points="([^"]+)"/
    .exec(svg)?.[1]
    ?.split(' ')
    .map((pair) => Number(pair.split(',')[0]));
  const [x1 = 0, x10 = 0, x100 = 0] = places ?? [];
  expect(x10 - x1).toBeCloseTo(x100 - x10, 0);
});
