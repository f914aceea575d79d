import { ok } from 'node:assert/strict';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SCHEDULING_POLICIES } from '../../../src/engine/options.ts';
import type { SequenceRequest } from '../../../src/engine/port.ts';
import { createSampler } from '../../../src/engine/sampler.ts';
import { PRIORITY_CLASSES } from '../../../src/kernel/priority.ts';
import { type FakeAdapterSpec, type FakeEngine, fakeEngine, tokenText } from '../../kit/fake-engine.ts';
import { adapterSignature, fakeAdapter, fakeLogits } from '../../kit/fake-runner.ts';
import { checkPrefixes, playTrace, type Submitted } from '../../kit/trace.ts';

/** fast-check prints seed and path of a failure; with the same seed it fails again. */
const SEED = 20_260_102;
const VOCAB = 32;
const EOS = 31;
/** The prompt's first token that makes the fake model give NaN. */
const POISON = 13;
const DIGESTS = ['a', 'b', 'c', 'd', 'e', 'f'];

const samplingArb = fc.oneof(
  fc.record({
    temperature: fc.constant(0),
    topP: fc.constant(1),
    topK: fc.constant(0),
    minP: fc.constant(0),
    repetitionPenalty: fc.constantFrom(1, 1.5),
    seed: fc.constant(0),
  }),
  fc.record({
    temperature: fc.constantFrom(0.5, 1, 2),
    topP: fc.constantFrom(1, 0.7, 0.95),
    topK: fc.constantFrom(0, 3, 20),
    minP: fc.constantFrom(0, 0.05),
    repetitionPenalty: fc.constantFrom(1, 0.8, 1.3),
    seed: fc.maxSafeNat(),
  }),
);

/** Prompts begin alike often enough for prefixes to be shared, within a tenant and across. */
const BEGINNING = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8];
const PREFIX_BLOCK = 4;

const promptArb = fc
  .tuple(fc.constantFrom(0, 4, 7, 12), fc.array(fc.nat(VOCAB - 1), { minLength: 1, maxLength: 12 }))
  .map(([shared, rest]) => [...BEGINNING.slice(0, shared), ...rest]);

const requestArb = fc.record({
  tenantId: fc.constantFrom('t1', 't2'),
  promptIds: promptArb,
  adapters: fc
    .uniqueArray(fc.constantFrom(...DIGESTS), { maxLength: 3 })
    .chain((digests) =>
      fc.tuple(...digests.map((digest) => fc.constantFrom(1, -0.5, 2).map((weight) => ({ digest, weight })))),
    ),
  sampling: samplingArb,
  stop: fc.record({
    maxTokens: fc.integer({ min: 1, max: 12 }),
    strings: fc.array(fc.constantFrom('a', 'bc', 'zz', 'kq'), { maxLength: 2 }),
    tokenIds: fc.uniqueArray(fc.nat(VOCAB - 1), { maxLength: 2 }),
    ignoreEos: fc.boolean(),
  }),
  priority: fc.constantFrom(...PRIORITY_CLASSES),
  topLogprobs: fc.constantFrom(0, 3),
});

const arrivalArb = fc.record({
  request: requestArb,
  /** Turns of the event loop after the previous arrival. */
  delay: fc.integer({ min: 0, max: 4 }),
  /** Cancelled that many turns after it arrived. */
  cancelAfter: fc.option(fc.integer({ min: 0, max: 15 }), { freq: 4 }),
});

const adapterArb: fc.Arbitrary<Required<FakeAdapterSpec>> = fc.record({
  pages: fc.integer({ min: 1, max: 5 }),
  bytes: fc.integer({ min: 50, max: 250 }),
  turns: fc.integer({ min: 0, max: 8 }),
  fails: fc.nat(9).map((n) => n === 0),
});

const traceArb = fc.record({
  arrivals: fc.array(arrivalArb, { minLength: 1, maxLength: 14, size: 'max' }),
  adapters: fc.tuple(...DIGESTS.map(() => adapterArb)),
  engine: fc.record({
    maxBatch: fc.integer({ min: 1, max: 6 }),
    prefillTokensPerStep: fc.integer({ min: 1, max: 16 }),
    maxQueue: fc.integer({ min: 2, max: 14 }),
    maxBypass: fc.integer({ min: 0, max: 4 }),
    maxPrefillStall: fc.integer({ min: 0, max: 4 }),
    hostCacheBytes: fc.integer({ min: 200, max: 700 }),
    maxConcurrentLoads: fc.integer({ min: 1, max: 3 }),
    scheduling: fc.constantFrom(...SCHEDULING_POLICIES),
    maxPreemptions: fc.integer({ min: 0, max: 3 }),
    interactiveTtftMs: fc.constantFrom(0, 1, 1, 10),
    interactiveInterTokenMs: fc.constantFrom(0, 5),
    standardTtftMs: fc.constantFrom(0, 1, 20),
    maxWaitPercent: fc.constantFrom(0, 0, 100),
    prefixBytes: fc.constantFrom(0, 2_500, 20_000),
    prefixBlockTokens: fc.constant(PREFIX_BLOCK),
  }),
  kvBudgetBytes: fc.oneof(fc.integer({ min: 250, max: 500 }), fc.integer({ min: 250, max: 1200 })),
  bankPages: fc.integer({ min: 4, max: 12 }),
  failingRuns: fc.uniqueArray(fc.nat(40), { maxLength: 2 }),
});

type Trace = typeof traceArb extends fc.Arbitrary<infer T> ? T : never;

interface Alone {
  readonly tokens: readonly number[];
  readonly text: string;
  readonly reason: 'stop' | 'length' | 'error';
}

/** What the request gives by definition: no engine, no batch, no chunks; text is searched as a whole. */
function alone({ promptIds, adapters, sampling, stop }: Omit<SequenceRequest, 'id'>, trace: Trace): Alone {
  const sampler = createSampler(VOCAB);
  const uses = adapters.map(({ digest, weight }) => ({ adapter: packed(digest, trace), weight }));
  const signature = adapterSignature(uses);
  const ends = new Set([...stop.tokenIds, ...(stop.ignoreEos ? [] : [EOS])]);
  const known = [...promptIds];
  let text = '';
  for (let step = 0; step < stop.maxTokens; step++) {
    const logits = fakeLogits(known, signature, VOCAB);
    if (promptIds[0] === POISON) return { tokens: [], text, reason: 'error' };
    const draw = { logits, params: sampling, seen: new Set(known), step, topLogprobs: 0 };
    const token = sampler.sample(draw)?.id ?? -1;
    known.push(token);
    const tokens = known.slice(promptIds.length);
    if (ends.has(token)) return { tokens, text, reason: 'stop' };
    text += tokenText(token);
    const cuts = stop.strings.map((each) => text.indexOf(each)).filter((at) => at >= 0);
    if (cuts.length > 0) return { tokens, text: text.slice(0, Math.min(...cuts)), reason: 'stop' };
  }
  return { tokens: known.slice(promptIds.length), text, reason: 'length' };
}

function packed(digest: string, trace: Trace) {
  const { pages, bytes } = spec(digest, trace);
  return fakeAdapter(digest, pages, bytes);
}

function spec(digest: string, trace: Trace): Required<FakeAdapterSpec> {
  const found = trace.adapters[DIGESTS.indexOf(digest)];
  if (found === undefined) throw new Error(`no adapter ${digest}`);
  return found;
}

/** Plays a trace and looks at memory in every turn. */
function play(trace: Trace, { engine }: FakeEngine): Promise<Submitted[]> {
  const onTurn = async (): Promise<void> => {
    const { hostCacheBytesUsed, prefixes } = await engine.status();
    ok(hostCacheBytesUsed <= memoryBound(trace), 'the host cache outgrew its bounds');
    ok(prefixes.bytesUsed <= trace.engine.prefixBytes, 'prefixes outgrew their budget');
  };
  return playTrace(trace.arrivals, engine, { turns: 2000, onTurn });
}

/** The budget, plus what each load slot may hold that has no room yet. */
function memoryBound({ engine, adapters }: Trace): number {
  return engine.hostCacheBytes + engine.maxConcurrentLoads * Math.max(...adapters.map(({ bytes }) => bytes));
}

function check(entry: Submitted, trace: Trace): void {
  const { request, recording, refused } = entry;
  if (refused !== null) {
    expect(['ENGINE_FULL', 'ENGINE_TOO_LARGE']).toContain(refused.code);
    expect(recording.events).toEqual([]);
    return;
  }
  expect(recording.ends).toBe(1);
  const end = recording.events.at(-1);
  if (end?.kind !== 'end') throw new Error('the last event is not the end');
  const expected = alone(request, trace);
  expect(recording.tokens).toEqual(expected.tokens.slice(0, recording.tokens.length));
  expect(end.usage.completionTokens).toBe(recording.tokens.length);
  expect(end.usage.promptTokens).toBe(request.promptIds.length);
  if (end.reason === 'cancelled') {
    expect(entry.cancelled).toBe(true);
    // No stop rule was met, so all text of its tokens was delivered, what was held back with the end.
    expect(recording.text).toBe(recording.tokens.map(tokenText).join(''));
  } else if (end.reason === 'error') {
    const code = end.error?.code;
    const used = request.adapters.map(({ digest }) => spec(digest, trace));
    const bytes = used.reduce((sum, each) => sum + each.bytes, 0);
    const pages = used.reduce((sum, each) => sum + each.pages, 0);
    if (code === 'ADAPTER_LOAD_FAILED') expect(used.some(({ fails }) => fails)).toBe(true);
    else if (code === 'ENGINE_TOO_LARGE') {
      expect(bytes > trace.engine.hostCacheBytes || pages > trace.bankPages).toBe(true);
    } else {
      expect(code).toBe('ENGINE_FAILED');
      expect(trace.failingRuns.length > 0 || expected.reason === 'error').toBe(true);
    }
  } else {
    expect({ tokens: recording.tokens, text: recording.text, reason: end.reason }).toEqual(expected);
    expect(request.adapters.some(({ digest }) => spec(digest, trace).fails)).toBe(false);
  }
}

/** Whatever is shared, every tenant is billed at least once for each adapter that it ran, and never for one that it did not. */
function checkBilling(all: readonly Submitted[], trace: Trace): void {
  for (const tenant of new Set(all.map(({ request }) => request.tenantId))) {
    const own = all.filter(({ request }) => request.tenantId === tenant);
    const sizes = ({ request }: Submitted): number[] =>
      request.adapters.map(({ digest }) => spec(digest, trace).bytes);
    const billed = own.map(({ recording }) => {
      const end = recording.events.at(-1);
      return end?.kind === 'end' ? end.usage.bytesLoaded : 0;
    });
    own.forEach((entry, index) => {
      expect(billed[index]).toBeLessThanOrEqual(sizes(entry).reduce((sum, bytes) => sum + bytes, 0));
    });
    const ran = own.filter(({ recording }) => recording.tokens.length > 0);
    const used = new Set(ran.flatMap(({ request }) => request.adapters.map(({ digest }) => digest)));
    const least = [...used].reduce((sum, digest) => sum + spec(digest, trace).bytes, 0);
    expect(billed.reduce((sum, bytes) => sum + bytes, 0)).toBeGreaterThanOrEqual(least);
  }
}

/** Nobody is billed for more than the steps took, and what was preempted is not billed twice. */
function checkCompute(all: readonly Submitted[], { runner }: FakeEngine, trace: Trace): number {
  const billed = all.map(({ recording }) => {
    const end = recording.events.at(-1);
    return end?.kind === 'end' ? end.usage.computeMs : 0;
  });
  const sum = billed.reduce((total, ms) => total + ms, 0);
  const tookMs = runner.runs.length * runner.options.stepMs;
  ok(sum <= tookMs + 1e-6, 'more was billed than was run');
  const rows = new Set(runner.runs.flatMap((run) => run.map(({ row }) => row))).size;
  const evictions = rows - all.filter((_, index) => (billed[index] ?? 0) > 0).length;
  // With prefixes, what was evicted may come back without work.
  const redone = evictions > 0 && trace.engine.prefixBytes === 0;
  if (redone) ok(sum < tookMs, 'work that was done again was billed');
  return evictions;
}

let evictions = 0;
let cachedTokens = 0;

async function checkTrace(trace: Trace): Promise<void> {
  const made = fakeEngine({
    engine: trace.engine,
    adapters: Object.fromEntries(DIGESTS.map((digest) => [digest, spec(digest, trace)])),
    runner: {
      vocabSize: VOCAB,
      kvBudgetBytes: trace.kvBudgetBytes,
      bankPages: trace.bankPages,
      failsOn: (run) => trace.failingRuns.includes(run),
      breaksRow: (tokens) => tokens[0] === POISON,
    },
    deps: { eosTokenIds: [EOS] },
  });
  const { engine, runner, loader } = made;
  const all = await play(trace, made);
  for (const entry of all) check(entry, trace);
  expect(runner.misuses).toEqual([]);
  expect(runner.openRows).toBe(0);
  const status = await engine.status();
  expect(status).toMatchObject({ running: 0, waiting: 0, waitingForAdapter: 0, kvBytesUsed: 0 });
  expect(status.residentAdapters.every(({ inUse }) => inUse === 0)).toBe(true);
  expect(status.hostCacheBytesUsed).toBeLessThanOrEqual(trace.engine.hostCacheBytes);
  checkBilling(all, trace);
  evictions += checkCompute(all, made, trace);
  cachedTokens += checkPrefixes(all, PREFIX_BLOCK);
  await engine.close({ graceMs: 0 });
  expect(runner.disposed && loader.closed).toBe(true);
}

test('in random traces every sequence gets what it gets alone, ends once, and leaves nothing behind', async () => {
  await fc.assert(fc.asyncProperty(traceArb, checkTrace), { seed: SEED, numRuns: 1200 });
  expect(evictions).toBeGreaterThan(20);
  expect(cachedTokens).toBeGreaterThan(300);
}, 180_000);
