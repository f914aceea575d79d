import type {
  AdapterUse,
  Engine,
  GeneratedToken,
  SequenceEvent,
  SequenceRequest,
  SequenceUsage,
} from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import type { OutputCommitment } from '../metering/commitment.ts';
import type { MeteringRecorder } from '../metering/recorder.ts';
import { type Chunk, ChunkBuffer } from './chunk-buffer.ts';
import type { EndEvent, InferenceEvent, ReceiptText } from './events.ts';
import { Handoff } from './handoff.ts';
import { type EndFacts, type Ending, meteredUsage, settlementOf, timingOf } from './metered.ts';
import type { RequestPrice } from './ports.ts';

/** How a request ends when its client leaves. */
export const CANCELLED: Ending = { reason: 'cancelled' };

/** Bounds of one run. */
export interface RunOptions {
  /** Most generated tokens of a stream that may wait for the client or the database. */
  readonly pendingTokensMax: number;
  /** How long to wait for the engine to report the end of a sequence that was cancelled. */
  readonly engineEndMs: number;
}

/** What one run is made of. */
export interface RunFacts {
  readonly request: SequenceRequest;
  readonly keyId: Uuid;
  readonly instanceId: Uuid;
  readonly price: RequestPrice;
  readonly commitment: OutputCommitment;
  /** Salt of the commitments. */
  readonly salt: Buffer;
  /** Whether the whole output is kept until the end, to be remembered for retries. */
  readonly keepOutput: boolean;
  readonly delivery: RunDelivery;
}

/**
 * How the answer reaches the client. `stream`: in chunks, each committed before it is handed out. `whole`: as one
 * chunk behind the settlement that covers it, and nothing is committed before.
 */
export type RunDelivery = 'stream' | 'whole';

/** What a run works with. */
export interface RunDeps {
  readonly engine: Engine;
  readonly recorder: Pick<MeteringRecorder, 'progress' | 'settle'>;
  readonly clock: Clock;
  /** Resolves after the time, or at once when the signal fires. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Is told what has settled; null where there are no receipts. */
  readonly receipts: ReceiptSource | null;
}

/** Where the signed statements of settled requests come from. */
export interface ReceiptSource {
  /** Has a receipt made of a request that has settled, and gives what asks for it. */
  settled(requestId: Uuid): ReceiptText;
}

const NOTHING: Chunk = { tokens: [], text: '' };

interface EngineEnd {
  readonly ending: Ending;
  readonly usage: SequenceUsage;
}

/**
 * One admitted request from the engine's first token to its settlement.
 *
 * The rule that everything else follows from: a chunk is handed to the client only after its progress is committed,
 * and the next chunk is committed only after the client came back for it. So what is metered and what was written
 * differ by at most one chunk, whenever and however this process ends. What the engine generates meanwhile grows the
 * next chunk.
 *
 * An answer that is delivered as a whole is one chunk, and its settlement is the only commit. So a process that is
 * lost before has metered nothing. A client that leaves before is charged for what was generated until then: it was
 * generated for that client alone, who could otherwise have any amount of work done for nothing, and a retry with the
 * same key hands it out. A failure delivers nothing, and so meters nothing.
 */
export class InferenceRun {
  readonly facts: RunFacts;
  readonly events: Handoff<InferenceEvent>;
  /** Resolves when the run is settled or given up; never rejects. */
  readonly done: Promise<void>;

  private readonly options: RunOptions;
  private readonly deps: RunDeps;
  private readonly buffer = new ChunkBuffer();
  private readonly ended = new AbortController();
  private readonly start: () => void;
  private engineEnd: EngineEnd | null = null;
  private interruption: Ending | null = null;
  private wake: (() => void) | null = null;
  private committing = false;
  private offeredAtMs = 0;
  private seq = 0;
  private completionTokens = 0;
  private cachedPromptTokens = 0;
  /** Counted where tokens are let go, so that these and the metered ones are all that ever came. */
  private droppedTokens = 0;
  private outputCommitment: Buffer;
  private text = '';
  private output: GeneratedToken[] = [];

  constructor(options: RunOptions, facts: RunFacts, deps: RunDeps) {
    this.options = options;
    this.facts = facts;
    this.deps = deps;
    this.outputCommitment = facts.commitment.value();
    this.events = new Handoff(() => this.leave());
    let start = (): void => {};
    const accepted = new Promise<void>((resolve) => {
      start = resolve;
    });
    this.start = start;
    this.done = accepted.then(() => this.run());
  }

  /** Starts delivering, once the engine has accepted the sequence. */
  accept(): void {
    this.start();
  }

  /** Takes what the engine reports; never blocks it. */
  onEngineEvent(event: SequenceEvent): void {
    const tokens = event.kind === 'tokens' ? event.tokens : [];
    if (event.kind === 'tokens') this.cachedPromptTokens = event.cachedPromptTokens;
    if (this.interruption === null) {
      this.buffer.append(tokens, event.text);
      if (!this.isWhole && this.buffer.size > this.options.pendingTokensMax) this.interrupt(this.overflow());
    } else {
      this.droppedTokens += tokens.length;
    }
    if (event.kind === 'end') {
      this.engineEnd = { ending: engineEnding(event, this.facts.request), usage: event.usage };
      this.ended.abort();
    }
    this.notify();
  }

  /** Ends the run for a reason of ours; the first reason counts, and none after the final settlement began. */
  interrupt(ending: Ending): void {
    if (this.interruption !== null) return;
    this.interruption = ending;
    if (!this.isWhole) this.drop(this.buffer.take());
    this.deps.engine.cancel(this.facts.request.id);
    this.events.interrupt();
    this.notify();
  }

  /** How long the client has not come back for more, in milliseconds; 0 while it is the client who waits. */
  stalledMs(): number {
    return this.events.pending ? this.deps.clock.monotonicMs() - this.offeredAtMs : 0;
  }

  /** What was delivered, when it was asked to be kept. */
  get delivered(): Chunk {
    return { text: this.text, tokens: this.output };
  }

  private async run(): Promise<void> {
    try {
      if (this.isWhole) {
        await this.endOrInterruption();
      } else {
        await this.offer({ kind: 'started', requestId: this.facts.request.id, replayed: false });
        await this.stream();
      }
      await this.finish();
    } catch (error) {
      // Only a bug or a database that stays away leads here. The admission row remains, and recovery settles it.
      this.interrupt({ reason: 'error', error: toPatchbayError(error).toPublic() });
      this.events.end(this.endEvent(null, null));
    }
  }

  private get isWhole(): boolean {
    return this.facts.delivery === 'whole';
  }

  private async endOrInterruption(): Promise<void> {
    while (this.interruption === null && this.engineEnd === null) await this.activity();
  }

  /** Commits and delivers chunks until the engine or something else ends the sequence. */
  private async stream(): Promise<void> {
    for (;;) {
      while (this.interruption === null && this.engineEnd === null && this.buffer.empty)
        await this.activity();
      if (this.interruption !== null || this.engineEnd !== null) return;
      const chunk = this.buffer.take();
      try {
        await this.commit(chunk);
      } catch (error) {
        this.drop(chunk);
        this.interrupt({ reason: 'error', error: toPatchbayError(error).toPublic() });
        return;
      }
      await this.offer(this.tokensEvent(chunk));
    }
  }

  /** Settles, then delivers what the settlement covers. */
  private async finish(): Promise<void> {
    if (this.engineEnd === null) await this.deps.pause(this.options.engineEndMs, this.ended.signal);
    const ending = this.interruption ?? this.engineEnd?.ending ?? CANCELLED;
    const last = this.lastChunk(ending);
    // What is left now is of an answer that failed as a whole.
    this.drop(this.buffer.take());
    if (last !== NOTHING)
      this.count(last, this.facts.commitment.append(last.tokens.map((token) => token.id)));
    // Whoever fenced this process settles its requests; writing is neither allowed nor needed.
    const lost = ending.error?.code === 'LEASE_LOST';
    const failure = lost ? null : await this.settle(ending);
    const receipt =
      failure === null && !lost ? this.deps.receipts?.settled(this.facts.request.id) : undefined;
    const rest =
      failure === null && (last.tokens.length > 0 || last.text !== '') ? [this.tokensEvent(last)] : [];
    this.events.end(...rest, this.endEvent(failure === null ? ending : failure, receipt ?? null));
  }

  /** The last chunk needs no commit of its own: the settlement is one. */
  private lastChunk(ending: Ending): Chunk {
    if (this.isWhole) return ending.reason === 'error' ? NOTHING : this.buffer.take();
    // After an interruption there is none, because the running commitment may hold a chunk whose commit failed.
    return this.interruption === null ? this.buffer.take() : NOTHING;
  }

  private async settle(ending: Ending): Promise<Ending | null> {
    try {
      const { recorder, clock } = this.deps;
      await recorder.settle(settlementOf(this.endFacts(ending), this.facts.price, newId(clock)));
      return null;
    } catch (error) {
      return { reason: 'error', error: toPatchbayError(error).toPublic() };
    }
  }

  private async commit(chunk: Chunk): Promise<void> {
    // Text can become final without a new token; there is nothing to meter then.
    if (chunk.tokens.length === 0) {
      this.count(chunk, this.outputCommitment);
      return;
    }
    const outputCommitment = this.facts.commitment.append(chunk.tokens.map((token) => token.id));
    this.committing = true;
    try {
      await this.deps.recorder.progress({
        requestId: this.facts.request.id,
        instanceId: this.facts.instanceId,
        completionTokens: this.completionTokens + chunk.tokens.length,
        cachedPromptTokens: this.cachedPromptTokens,
        outputCommitment,
      });
    } finally {
      this.committing = false;
    }
    this.count(chunk, outputCommitment);
  }

  /** Adds a chunk to what is metered; a chunk whose commit failed never gets here, nor does its commitment. */
  private count(chunk: Chunk, outputCommitment: Buffer): void {
    this.completionTokens += chunk.tokens.length;
    this.outputCommitment = outputCommitment;
    if (this.facts.keepOutput) {
      this.output.push(...chunk.tokens);
      this.text += chunk.text;
    }
  }

  private drop({ tokens }: Chunk): void {
    this.droppedTokens += tokens.length;
  }

  private offer(event: InferenceEvent): Promise<unknown> {
    this.offeredAtMs = this.deps.clock.monotonicMs();
    const delivery = this.events.offer(event);
    if (this.interruption !== null) this.events.interrupt();
    return delivery;
  }

  private tokensEvent(chunk: Chunk): InferenceEvent {
    const event: InferenceEvent = { kind: 'tokens', seq: this.seq, text: chunk.text, tokens: chunk.tokens };
    this.seq += 1;
    return event;
  }

  private endEvent(ending: Ending | null, receipt: ReceiptText | null): EndEvent {
    const end = ending ?? this.interruption ?? CANCELLED;
    const { request, salt } = this.facts;
    return {
      kind: 'end',
      requestId: request.id,
      finishReason: end.reason,
      usage: meteredUsage(this.endFacts(end)),
      timing: timingOf(this.engineEnd?.usage ?? null),
      replayed: false,
      outputComplete: true,
      receipt,
      opening: { salt: salt.toString('hex'), promptIds: request.promptIds },
      ...(end.error === undefined ? {} : { error: end.error }),
    };
  }

  private endFacts(ending: Ending): EndFacts {
    return {
      requestId: this.facts.request.id,
      instanceId: this.facts.instanceId,
      admittedPromptTokens: this.facts.request.promptIds.length,
      completionTokens: this.completionTokens,
      cachedPromptTokens: this.cachedPromptTokens,
      droppedTokens: this.droppedTokens,
      outputCommitment: this.outputCommitment,
      ending,
      engine: this.engineEnd?.usage ?? null,
    };
  }

  private overflow(): Ending {
    const { pendingTokensMax } = this.options;
    const error = this.committing
      ? new PatchbayError('DATABASE_UNAVAILABLE', 'The database did not take the progress in time.')
      : new PatchbayError('SLOW_CONSUMER', 'The client read too slowly.', { meta: { pendingTokensMax } });
    return { reason: 'error', error: error.toPublic() };
  }

  private async leave(): Promise<void> {
    this.interrupt(CANCELLED);
    await this.done;
  }

  private activity(): Promise<void> {
    return new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private notify(): void {
    const wake = this.wake;
    this.wake = null;
    wake?.();
  }
}

/**
 * A failure always has a code, so that its record says what failed. An engine that says that it ran anything but what the
 * request names has failed, whatever it thinks.
 */
function engineEnding(event: Extract<SequenceEvent, { kind: 'end' }>, { adapters }: SequenceRequest): Ending {
  const { executed } = event.usage;
  if (executed !== null && !isSame(executed, adapters)) {
    const other = new PatchbayError('ENGINE_FAILED', 'The engine ran other adapters than the request names.');
    return { reason: 'error', error: other.toPublic() };
  }
  if (event.reason !== 'error') return { reason: event.reason };
  const unnamed = new PatchbayError('ENGINE_FAILED', 'The engine failed while it ran the request.');
  return { reason: 'error', error: event.error ?? unnamed.toPublic() };
}

function isSame(executed: readonly AdapterUse[], named: readonly AdapterUse[]): boolean {
  return (
    executed.length === named.length &&
    executed.every(({ digest, weight }, index) => {
      const use = named[index];
      return use !== undefined && use.digest === digest && Object.is(use.weight, weight);
    })
  );
}
