import { z } from 'zod';

/** What serves the requests of a point: the engine under test, the alternatives to it, and the peer. */
export const SYSTEMS = ['patchbay', 'processes', 'swap', 'peer'] as const;

const count = z.number().int().positive();
const amount = z.number().nonnegative();

const specSchema = z.object({
  system: z.enum(SYSTEMS),
  /** Registered adapters that requests draw from. */
  adapters: count,
  law: z.enum(['uniform', 'zipf']),
  /** Adapter number i has the i-th of these ranks, over and over. */
  ranks: z.array(count).min(1),
  priorities: z.enum(['one', 'mixed']),
  streams: count,
  requests: count,
});

const latencySchema = z.object({ p50: amount, p95: amount });

const classLatencySchema = z.object({ priority: z.string(), requests: count, ttftMs: latencySchema });

const sampleSchema = z.object({
  spec: specSchema,
  round: count,
  tokensPerSecond: amount,
  ttftMs: latencySchema.nullable(),
  interTokenMs: latencySchema.nullable(),
  /** Resident set of the measuring process at the end of the load; of all of them where there are several. */
  rssBytes: amount,
  /** What the engine's own status said, sampled while the load ran. */
  engine: z
    .object({
      hostCacheBytes: amount,
      hostCacheBudget: amount,
      /** Of adapters that are in the bank. */
      bankBytes: amount,
      /** Adapters with a running sequence, in the mean. */
      distinctInUse: amount,
      stepMs: z.object({ total: amount, model: amount, adapter: amount, host: amount }),
    })
    .nullable(),
  loads: z
    .object({
      perRequest: amount,
      /** Median from asking the loader thread to having the adapter. */
      ms: amount,
      /** Median of the time in the thread alone; of all loads, the warm-up's too. */
      threadMs: amount,
      /** Of one packed adapter, in the mean over those that were loaded, with its pages. */
      bytes: amount,
      pages: amount,
    })
    .nullable(),
  classes: z.array(classLatencySchema),
  /** Of the server that swaps merged weights: medians of one swap's parts. */
  swap: z
    .object({
      swapsPerRequest: amount,
      readMs: amount,
      mergeMs: amount,
      writeMs: amount,
      openMs: amount,
      /** Requests that were in flight together, in the mean over swaps. */
      batch: amount,
      /** Were weights patched in place: the same run less the time for writing and opening. */
      inPlaceTokensPerSecond: amount,
    })
    .nullable(),
  /** Of one process for each adapter: memory that a process shares with no other, in the mean. */
  privateBytes: amount.nullable(),
});

const simulatedSchema = z.object({
  adapters: count,
  law: z.enum(['uniform', 'zipf']),
  tokensPerSecond: amount,
  ttftMs: latencySchema,
  interTokenMs: latencySchema,
  loadsPerRequest: amount,
});

const costsSchema = z.object({
  step: z.object({
    stepMs: amount,
    decodeRowMs: amount,
    prefillTokenMs: amount,
    pageMs: amount,
    contextTokenMs: amount,
  }),
  adapters: z.object({
    pages: amount,
    bytes: amount,
    loadMs: amount,
    bankPageMs: amount,
    hostAdapters: count,
    loadStepMs: amount.optional(),
  }),
});

/** What `npm run bench:diversity` writes: everything that docs/diversity.md is made of. */
export const resultsSchema = z.object({
  format: z.literal(1),
  size: z.enum(['quick', 'default', 'full']),
  command: z.string(),
  commit: z.string(),
  startedAt: z.string(),
  minutes: amount,
  machine: z.object({
    processor: z.string(),
    cores: count,
    memoryBytes: count,
    node: z.string(),
    loadAverage: amount,
  }),
  peerVersion: z.string().nullable(),
  load: z.object({
    backbone: z.string(),
    weightBytes: count,
    promptTokens: count,
    newTokens: count,
    cacheBytes: count,
    seed: count,
    rounds: count,
  }),
  pricePerHour: z.number().positive(),
  samples: z.array(sampleSchema),
  simulation: z
    .object({
      requests: count,
      costs: costsSchema,
      /** Measured points that the costs were fitted to, by number of adapters; the rest are a check. */
      fitted: z.object({ step: count, page: count, load: count }),
      points: z.array(simulatedSchema),
    })
    .nullable(),
});

export type PointSpec = z.infer<typeof specSchema>;
export type Latency = z.infer<typeof latencySchema>;
export type Sample = z.infer<typeof sampleSchema>;
export type SimulatedPoint = z.infer<typeof simulatedSchema>;
export type Results = z.infer<typeof resultsSchema>;
export type Law = PointSpec['law'];
export type System = PointSpec['system'];

/** What a child process that measures one point must know. */
export interface PointJob {
  readonly spec: PointSpec;
  readonly round: number;
  readonly load: Omit<Results['load'], 'weightBytes'>;
}
