import type { GeneratedToken } from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import type { Chunk } from './chunk-buffer.ts';

/** Bounds of {@link RecentOutputs}. */
export interface RecentOutputsOptions {
  /** How long an output is remembered after its end. */
  readonly keepMs: number;
  /** Most outputs, and most tokens of all of them together. */
  readonly outputsMax: number;
  readonly tokensMax: number;
}

interface Output {
  readonly chunk: Chunk;
  readonly endedMs: number;
}

/**
 * Outputs of requests that ended here a moment ago, in memory only, for the client that lost the answer and retries
 * with the same idempotency key. A convenience of this process: nothing that is promised depends on it.
 */
export class RecentOutputs {
  private readonly options: RecentOutputsOptions;
  private readonly clock: Clock;
  private readonly outputs = new Map<Uuid, Output>();
  private tokens = 0;

  constructor(options: RecentOutputsOptions, deps: { readonly clock: Clock }) {
    this.options = options;
    this.clock = deps.clock;
  }

  /** Remembers what a request delivered. */
  add(requestId: Uuid, text: string, tokens: readonly GeneratedToken[]): void {
    if (tokens.length > this.options.tokensMax) return;
    this.outputs.set(requestId, { chunk: { text, tokens }, endedMs: this.clock.monotonicMs() });
    this.tokens += tokens.length;
    this.trim();
  }

  /** The output of a request, or null when it is forgotten or was never here. */
  find(requestId: Uuid): Chunk | null {
    this.trim();
    return this.outputs.get(requestId)?.chunk ?? null;
  }

  private trim(): void {
    const oldest = this.clock.monotonicMs() - this.options.keepMs;
    // A map keeps insertion order, so the first entry is the oldest.
    for (const [requestId, output] of this.outputs) {
      const over = this.outputs.size > this.options.outputsMax || this.tokens > this.options.tokensMax;
      if (!over && output.endedMs > oldest) return;
      this.outputs.delete(requestId);
      this.tokens -= output.chunk.tokens.length;
    }
  }
}
