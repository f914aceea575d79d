import type { PriorityClass } from '../../kernel/priority.ts';
import { Random } from './random.ts';

/** A request of a trace. */
export interface TraceRequest {
  readonly atMs: number;
  readonly client: string;
  readonly priority: PriorityClass;
  /** Digest of its adapter; null for the plain backbone. */
  readonly adapter: string | null;
  readonly promptTokens: number;
  /** Tokens after which it ends by itself. */
  readonly newTokens: number;
  /** Tokens that it asks for at most. */
  readonly maxTokens: number;
}

/** A client that sends requests of its own kind. */
export interface Client {
  readonly name: string;
  readonly priority: PriorityClass;
  /** Requests per second at a time of the trace, in milliseconds: constant, on and off, shifting. */
  readonly rate: (atMs: number) => number;
  /** Coefficient of variation of the gaps between requests: 1 is Poisson, more comes in bursts (Gamma). */
  readonly variation?: number;
  readonly promptTokens: readonly [number, number];
  readonly newTokens: readonly [number, number];
  readonly adapters?: {
    readonly count: number;
    /** Exponent of the popularity law; 0 is uniform. */
    readonly zipf: number;
  };
}

/** Rate while it is idle, to find out when it is not any more, in milliseconds. */
const IDLE_STEP_MS = 1_000;

/** What clients send until the given time, by time. */
export function traceOf(clients: readonly Client[], untilMs: number, seed: number): TraceRequest[] {
  const requests = clients.flatMap((client, index) => requestsOf(client, untilMs, seed * 1_000 + index));
  return requests.sort((a, b) => a.atMs - b.atMs);
}

function requestsOf(client: Client, untilMs: number, seed: number): TraceRequest[] {
  const random = new Random(seed);
  const requests: TraceRequest[] = [];
  let atMs = 0;
  while (atMs < untilMs) {
    const rate = client.rate(atMs);
    if (rate <= 0) {
      atMs += IDLE_STEP_MS;
      continue;
    }
    atMs += random.gamma(1_000 / rate, client.variation ?? 1);
    const newTokens = random.integer(...client.newTokens);
    const { adapters } = client;
    requests.push({
      atMs,
      client: client.name,
      priority: client.priority,
      adapter: adapters === undefined ? null : `${client.name}/${random.zipf(adapters.count, adapters.zipf)}`,
      promptTokens: random.integer(...client.promptTokens),
      newTokens,
      maxTokens: newTokens,
    });
  }
  return requests;
}
