import { z } from 'zod';
import { CURRENCY, DEFAULT_CURRENCY } from '../kernel/money.ts';
import type { Read } from './read.ts';
import {
  byteSize,
  choice,
  durationMs,
  flag,
  integer,
  list,
  optionalByteSize,
  optionalInteger,
  text,
} from './setting.ts';

const EXECUTION_PROVIDERS = ['cpu', 'webgpu', 'cuda', 'coreml', 'dml'] as const;

/** The bounds of the service: engine, adapters, metering and GraphQL. */
export function serviceTable(read: Read) {
  return {
    engine: {
      maxBatch: read(
        'Engine',
        integer(
          { env: 'PATCHBAY_MAX_BATCH', doc: 'Sequences that run at the same time.' },
          { default: 16, min: 1, max: 64 },
        ),
      ),
      maxContext: read(
        'Engine',
        optionalInteger(
          {
            env: 'PATCHBAY_MAX_CONTEXT',
            doc: 'Most tokens of one sequence, prompt and answer together; without it, what the backbone was trained for, at most 8192.',
          },
          { min: 16, max: 1_048_576 },
        ),
      ),
      prefillTokensPerStep: read(
        'Engine',
        integer(
          {
            env: 'PATCHBAY_PREFILL_TOKENS_PER_STEP',
            doc: 'Prompt tokens that one step processes at most, so that a long prompt does not stall running streams.',
          },
          { default: 256, min: 1, max: 65_536 },
        ),
      ),
      memoryBytes: read(
        'Engine',
        optionalByteSize(
          {
            env: 'PATCHBAY_MEMORY_BYTES',
            doc: 'Memory of the whole process: weights, keys and values, adapters and everything else. Without it, half of the machine’s, or of what its container may take. The start prints how it is divided.',
          },
          { min: '64MB', max: '16TB' },
        ),
      ),
      kvBytes: read(
        'Engine',
        optionalByteSize(
          {
            env: 'PATCHBAY_KV_BYTES',
            doc: 'Of that, memory for keys and values of all sequences; without it, a share. A request that does not fit waits or is refused.',
          },
          { min: '1MB', max: '1TB' },
        ),
      ),
      hostCacheBytes: read(
        'Engine',
        optionalByteSize(
          {
            env: 'PATCHBAY_HOST_CACHE_BYTES',
            doc: 'Of that, memory for adapters that are kept ready outside of the bank; without it, what is left.',
          },
          { min: '1MB', max: '1TB' },
        ),
      ),
      bankBytes: read(
        'Engine',
        optionalByteSize(
          {
            env: 'PATCHBAY_BANK_BYTES',
            doc: 'Of that, memory for the adapter pages that one step can read; without it, a share. An adapter takes pages by its rank.',
          },
          { min: '1MB', max: '1TB' },
        ),
      ),
      prefixBytes: read(
        'Engine',
        optionalByteSize(
          {
            env: 'PATCHBAY_PREFIX_BYTES',
            doc: 'Of that, memory for keys and values of prompts that are kept for later prompts of the same tenant and adapters that begin alike; without it, a share. 0 keeps none.',
          },
          { min: '0', max: '1TB' },
        ),
      ),
      maxQueue: read(
        'Engine',
        integer(
          {
            env: 'PATCHBAY_MAX_QUEUE',
            doc: 'Requests that may wait; more are refused with ENGINE_FULL. One tenant gets at most about half of the places, so that others find one.',
          },
          { default: 1_024, min: 1, max: 100_000 },
        ),
      ),
      scheduling: read(
        'Engine',
        choice(
          {
            env: 'PATCHBAY_SCHEDULING',
            doc: 'Who goes first within a priority class: `fair` shares the engine among tenants, and a tenant’s part among its adapters, by what they cost; `round-robin` and `fcfs` are for comparison.',
          },
          ['fair', 'round-robin', 'fcfs'],
          'fair',
        ),
      ),
      interactiveTtftMs: read(
        'Engine',
        durationMs(
          {
            env: 'PATCHBAY_INTERACTIVE_TTFT_MS',
            doc: 'Time to the first token that INTERACTIVE requests aim at; less urgent rows make room when one would be late, and one that would wait for half of it is refused. 0 is no target.',
          },
          { default: '1s', min: '0', max: '24h' },
        ),
      ),
      interactiveInterTokenMs: read(
        'Engine',
        durationMs(
          {
            env: 'PATCHBAY_INTERACTIVE_INTER_TOKEN_MS',
            doc: 'Time between tokens that INTERACTIVE requests aim at; prompts are read in smaller chunks to keep it. 0 is no target.',
          },
          { default: '200ms', min: '0', max: '24h' },
        ),
      ),
      standardTtftMs: read(
        'Engine',
        durationMs(
          {
            env: 'PATCHBAY_STANDARD_TTFT_MS',
            doc: 'The same for STANDARD requests: time to the first token.',
          },
          { default: '30s', min: '0', max: '24h' },
        ),
      ),
      standardInterTokenMs: read(
        'Engine',
        durationMs(
          {
            env: 'PATCHBAY_STANDARD_INTER_TOKEN_MS',
            doc: 'The same for STANDARD requests: time between tokens.',
          },
          { default: '1s', min: '0', max: '24h' },
        ),
      ),
      maxWaitPercent: read(
        'Engine',
        integer(
          {
            env: 'PATCHBAY_MAX_WAIT_PERCENT',
            doc: 'A request is refused with ENGINE_FULL when its predicted wait exceeds this percentage of what its class’s time to the first token leaves for waiting; 0 refuses only when the queue is full.',
          },
          { default: 50, min: 0, max: 10_000 },
        ),
      ),
      maxPreemptions: read(
        'Engine',
        integer(
          {
            env: 'PATCHBAY_MAX_PREEMPTIONS',
            doc: 'Times that one sequence may have to make room for a more urgent one before it keeps its place.',
          },
          { default: 8, min: 0, max: 1_000 },
        ),
      ),
      chunksPerSecond: read(
        'Engine',
        integer(
          {
            env: 'PATCHBAY_CHUNKS_PER_SECOND',
            doc: 'Chunks that all streams together hand out in a second: each is committed before it is sent, and that takes processor time from the engine. With 200, 16 streams get one every 80 ms, with what was generated since, and a single stream one for each token; none waits longer than 100 ms, and the first and the last wait for nothing. 0 hands out each step of the engine.',
          },
          { default: 200, min: 0, max: 1_000_000 },
        ),
      ),
      intraOpThreads: read(
        'Engine',
        integer(
          {
            env: 'PATCHBAY_INTRA_OP_THREADS',
            doc: 'Threads of the matrix kernels; 0 takes one for each physical core.',
          },
          { default: 0, min: 0, max: 256 },
        ),
      ),
      executionProviders: read(
        'Engine',
        list(
          {
            env: 'PATCHBAY_EXECUTION_PROVIDERS',
            doc: 'ONNX Runtime execution providers in order of preference.',
          },
          EXECUTION_PROVIDERS,
          'cpu',
        ),
      ),
    },
    adapters: {
      maxRank: read(
        'Adapters',
        integer(
          { env: 'PATCHBAY_MAX_ADAPTER_RANK', doc: 'Highest rank that an upload may have.' },
          { default: 128, min: 1, max: 1_024 },
        ),
      ),
      maxBytes: read(
        'Adapters',
        byteSize(
          { env: 'PATCHBAY_MAX_ADAPTER_BYTES', doc: 'Largest file of an upload.' },
          { default: '512MB', min: '1KB', max: '64GB' },
        ),
      ),
      maxBlend: read(
        'Adapters',
        integer(
          { env: 'PATCHBAY_MAX_BLEND', doc: 'Adapters that one request may blend.' },
          { default: 8, min: 1, max: 64 },
        ),
      ),
      uploadTtlMs: read(
        'Adapters',
        durationMs(
          { env: 'PATCHBAY_UPLOAD_TTL_MS', doc: 'How long an opened upload accepts bytes.' },
          { default: '1h', min: '1s', max: '168h' },
        ),
      ),
    },
    metering: {
      leaseMs: read(
        'Metering',
        durationMs(
          {
            env: 'PATCHBAY_LEASE_MS',
            doc: 'After this long without a sign of life, another process may settle this one’s requests. It is renewed three times in that time.',
          },
          { default: '15s', min: '1s', max: '10m' },
        ),
      ),
    },
    pricing: {
      defaultPrice: read(
        'Pricing',
        choice(
          {
            env: 'PATCHBAY_DEFAULT_PRICE',
            doc: 'What a backbone that never had a price gets at the start: `zero`, an explicit version with all prices zero, as long as nothing else costs anything; or `none`. Without a price, requests are refused with PRICE_MISSING until an operator sets one.',
          },
          ['zero', 'none'],
          'zero',
        ),
      ),
      currency: read(
        'Pricing',
        text(
          {
            env: 'PATCHBAY_CURRENCY',
            doc: 'The currency of the price of zero that a new installation begins with. The first price decides the currency of an installation for good; afterwards this says nothing.',
          },
          {
            default: DEFAULT_CURRENCY,
            expected: '3 to 8 capital letters, such as USD',
            schema: z.string().regex(CURRENCY),
          },
        ),
      ),
    },
    events: {
      keepMs: read(
        'Metering',
        durationMs(
          {
            env: 'PATCHBAY_EVENTS_KEEP_MS',
            doc: 'How long events are kept for dashboards to look back on and to resume from.',
          },
          { default: '720h', min: '1h', max: '17520h' },
        ),
      ),
    },
    graphql: {
      introspection: read(
        'GraphQL',
        flag(
          { env: 'PATCHBAY_INTROSPECTION', doc: 'Whether clients may read the schema from the server.' },
          true,
        ),
      ),
      maxDepth: read(
        'GraphQL',
        integer(
          { env: 'PATCHBAY_MAX_DEPTH', doc: 'Deepest nesting of an operation.' },
          { default: 12, min: 3, max: 100 },
        ),
      ),
      maxAliases: read(
        'GraphQL',
        integer(
          { env: 'PATCHBAY_MAX_ALIASES', doc: 'Most aliases in an operation.' },
          { default: 30, min: 0, max: 1_000 },
        ),
      ),
      maxCost: read(
        'GraphQL',
        integer(
          { env: 'PATCHBAY_MAX_COST', doc: 'Highest estimated cost of an operation.' },
          { default: 10_000, min: 10, max: 10_000_000 },
        ),
      ),
      maxTokens: read(
        'GraphQL',
        integer(
          { env: 'PATCHBAY_MAX_OPERATION_TOKENS', doc: 'Most lexical tokens in an operation’s text.' },
          { default: 2_000, min: 100, max: 100_000 },
        ),
      ),
      maxBodyBytes: read(
        'GraphQL',
        byteSize(
          { env: 'PATCHBAY_MAX_BODY_BYTES', doc: 'Largest HTTP request body or websocket message.' },
          { default: '2MB', min: '1KB', max: '256MB' },
        ),
      ),
      wsOperationsPerSocket: read(
        'GraphQL',
        integer(
          {
            env: 'PATCHBAY_WS_OPERATIONS_PER_SOCKET',
            doc: 'Operations that may run at the same time on one websocket.',
          },
          { default: 64, min: 1, max: 10_000 },
        ),
      ),
      wsInitTimeoutMs: read(
        'GraphQL',
        durationMs(
          {
            env: 'PATCHBAY_WS_INIT_TIMEOUT_MS',
            doc: 'How long a new websocket may take to send its connection_init.',
          },
          { default: '5s', min: '100ms', max: '1m' },
        ),
      ),
      slowConsumerBytes: read(
        'GraphQL',
        byteSize(
          {
            env: 'PATCHBAY_SLOW_CONSUMER_BYTES',
            doc: 'Unsent bytes at which a websocket counts as too slow.',
          },
          { default: '1MB', min: '1KB', max: '1GB' },
        ),
      ),
      slowConsumerMs: read(
        'GraphQL',
        durationMs(
          {
            env: 'PATCHBAY_SLOW_CONSUMER_MS',
            doc: 'How long a websocket may stay above that before it is closed with SLOW_CONSUMER.',
          },
          { default: '10s', min: '100ms', max: '10m' },
        ),
      ),
    },
  };
}
