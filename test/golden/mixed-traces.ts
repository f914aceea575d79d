import fc from 'fast-check';
import { SCHEDULING_POLICIES } from '../../src/engine/options.ts';
import type { AdapterUse, SequenceRequest } from '../../src/engine/port.ts';
import { PRIORITY_CLASSES } from '../../src/kernel/priority.ts';
import { request } from '../kit/fake-engine.ts';
import { synthPrompt } from '../reference/synth.ts';

/** Ranks 3 to 40: one page and several, all layers and some. */
export const ADAPTERS = ['all_r8', 'qv_r3', 'rslora_r24', 'pattern', 'half_r16', 'last_only'];
export const MAX_BLEND = 3;
export const PREFIX_BLOCK = 8;
const BEGINNING = synthPrompt('mixed-beginning', 64);

/** Some blends come again and again, so that requests share pages and beginnings; others are drawn freely. */
const blendArb: fc.Arbitrary<readonly AdapterUse[]> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.constantFrom<readonly AdapterUse[]>(
      [],
      [{ digest: 'all_r8', weight: 1 }],
      [{ digest: 'last_only', weight: 1 }],
      [
        { digest: 'rslora_r24', weight: 0.75 },
        { digest: 'all_r8', weight: -0.5 },
      ],
    ),
  },
  fc
    .uniqueArray(fc.constantFrom(...ADAPTERS), { minLength: 1, maxLength: MAX_BLEND })
    .chain((digests) =>
      fc.tuple(
        ...digests.map((digest) => fc.constantFrom(1, -1, 0.3, 1.5).map((weight) => ({ digest, weight }))),
      ),
    ),
);

/** Long ones are rare and outgrow the first capacity class, at once or while they are decoded. */
const promptArb = fc
  .tuple(
    fc.constantFrom(0, 8, 21, 40, 64),
    fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 40 }) }, fc.integer({ min: 50, max: 130 })),
    fc.nat(1000),
  )
  .map(([shared, rest, salt]) => [...BEGINNING.slice(0, shared), ...synthPrompt(`mixed-${salt}`, rest)]);

const requestArb: fc.Arbitrary<Omit<SequenceRequest, 'id'>> = fc.record({
  tenantId: fc.constantFrom('t1', 't1', 't2'),
  promptIds: promptArb,
  adapters: blendArb,
  sampling: fc.constant(request().sampling),
  stop: fc.record({
    maxTokens: fc.integer({ min: 1, max: 24 }),
    strings: fc.constant([]),
    tokenIds: fc.uniqueArray(fc.nat(319), { maxLength: 3 }),
    ignoreEos: fc.boolean(),
  }),
  priority: fc.constantFrom(...PRIORITY_CLASSES, 'BATCH' as const),
  // With alternatives the choice is made from the logits, without them inside the graph.
  topLogprobs: fc.constantFrom(0, 0, 3),
});

/** Requests that arrive beside each other, and an engine with too little of everything. */
export const traceArb = fc.record({
  arrivals: fc.array(
    fc.record({
      request: requestArb,
      delay: fc.integer({ min: 0, max: 8 }),
      cancelAfter: fc.oneof(
        { weight: 3, arbitrary: fc.constant(null) },
        { weight: 1, arbitrary: fc.integer({ min: 0, max: 60 }) },
      ),
    }),
    { minLength: 4, maxLength: 12, size: 'max' },
  ),
  engine: fc.record({
    scheduling: fc.constantFrom(...SCHEDULING_POLICIES),
    maxBatch: fc.oneof(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 4, max: 8 })),
    prefillTokensPerStep: fc.integer({ min: 4, max: 120 }),
    maxBypass: fc.integer({ min: 0, max: 4 }),
    maxPrefillStall: fc.integer({ min: 0, max: 4 }),
    maxPreemptions: fc.constantFrom(0, 1, 2, 4),
    interactiveTtftMs: fc.constantFrom(0, 1, 1, 30),
    standardTtftMs: fc.constantFrom(0, 1, 60),
    prefixBytes: fc.constantFrom(0, 2 ** 17, 2 ** 22),
    prefixBlockTokens: fc.constant(PREFIX_BLOCK),
    maxConcurrentLoads: fc.integer({ min: 1, max: 3 }),
    // What is refused is not compared, so nothing is.
    maxWaitPercent: fc.constant(0),
  }),
  /** Room for short sequences; a long one takes as much as two. */
  kvRows: fc.integer({ min: 2, max: 8 }),
  /** Pages of the bank, and bytes of the host cache in hundredths, beyond what the largest blend needs. */
  sparePages: fc.integer({ min: 0, max: 5 }),
  spareBytes: fc.integer({ min: 0, max: 60 }),
  loadTurns: fc.array(fc.nat(8), { minLength: ADAPTERS.length, maxLength: ADAPTERS.length }),
});
export type Trace = typeof traceArb extends fc.Arbitrary<infer T> ? T : never;
