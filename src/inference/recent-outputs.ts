import type { GeneratedToken } from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import { every, type Periodic } from '../metering/periodic.ts';
import type { Chunk } from './chunk-buffer.ts';

/** Bounds of {@link RecentOutputs}. */
export interface RecentOutputsOptions {
  /** How long an output is remembered after its end. */
  readonly keepMs: number;
  /** Most outputs, and most tokens of all of them together; an alternative to a token counts as another token. */
  readonly outputsMax: number;
  readonly tokensMax: number;
}

/** How often outputs that have been kept long enough are dropped. */
const TRIM_MS = 1_000;

interface Output {
  readonly chunk: Chunk;
  readonly weight: number;
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
  private weight = 0;
  private trimmer: Periodic | null = null;

  constructor(options: RecentOutputsOptions, deps: { readonly clock: Clock }) {
    this.options = options;
    this.clock = deps.clock;
  }

  /** Outputs that are remembered. */
  get size(): number {
    return this.outputs.size;
  }

  /** Starts forgetting in time also while nobody adds or looks for anything. */
  start(): void {
    this.trimmer ??= every(TRIM_MS, async () => this.trim());
  }

  async stop(): Promise<void> {
    await this.trimmer?.stop();
  }

  /** Remembers what a request delivered. */
  add(requestId: Uuid, text: string, tokens: readonly GeneratedToken[]): void {
    const weight = tokens.reduce((sum, { top }) => sum + 1 + (top?.length ?? 0), 0);
    if (weight > this.options.tokensMax) return;
    this.outputs.set(requestId, { chunk: { text, tokens }, weight, endedMs: this.clock.monotonicMs() });
    this.weight += weight;
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
      const over = this.outputs.size > this.options.outputsMax || this.weight > this.options.tokensMax;
      if (!over && output.endedMs > oldest) return;
      this.outputs.delete(requestId);
      this.weight -= output.weight;
    }
  }
}
