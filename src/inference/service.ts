import type { GeneratedToken } from '../engine/port.ts';
import { outOfFunds, overBudget } from '../kernel/budget.ts';
import { PatchbayError, type PublicError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { quotaExceeded } from '../kernel/quota.ts';
import type { Lease } from '../metering/lease.ts';
import { every, type Periodic, pause } from '../metering/periodic.ts';
import { leaseLost, type MeteringRecorder } from '../metering/recorder.ts';
import type { Admission, Refusal } from '../metering/types.ts';
import type { EndEvent, GenerateResult, InferenceEvent } from './events.ts';
import { hashIdempotencyKey, type InferenceInput, isSameRequest, type NormalInput } from './input.ts';
import { Intake, type IntakeDeps, type IntakeOptions, type PreparedRequest } from './intake.ts';
import type { Caller } from './ports.ts';
import { RecentOutputs, type RecentOutputsOptions } from './recent-outputs.ts';
import { replay } from './replay.ts';
import { CANCELLED, InferenceRun, type ReceiptSource, type RunDelivery, type RunOptions } from './run.ts';

/** Bounds of the service. */
export interface InferenceOptions extends RunOptions, IntakeOptions {
  /** Most requests that are being admitted or are not settled in this process. */
  readonly liveRequestsMax: number;
  /** How long a client may keep a delivered chunk without coming back for the next. */
  readonly stallMs: number;
  readonly recentOutputs: RecentOutputsOptions;
}

/** Bounds that suit a server; tests override them. */
export const INFERENCE_DEFAULTS: Omit<InferenceOptions, 'maxBlendWeight'> = {
  liveRequestsMax: 4_096,
  pendingTokensMax: 1_024,
  stallMs: 30_000,
  engineEndMs: 10_000,
  recentOutputs: { keepMs: 120_000, outputsMax: 1_000, tokensMax: 500_000 },
};

/** Advice to who is refused for the number of live requests: about the time in which some of so many end. */
const RETRY_AFTER_MS = 1_000;

/** What the service works with. */
export interface InferenceDeps extends IntakeDeps {
  readonly recorder: MeteringRecorder;
  readonly lease: Lease;
  readonly receipts?: ReceiptSource | null;
}

/** A request that is being admitted. */
interface Attempt {
  readonly keyId: Uuid;
  /** Whether its key was revoked since it came. */
  revoked: boolean;
}

interface AdmitOptions {
  /** Cancels the request. */
  readonly signal?: AbortSignal;
  readonly delivery: RunDelivery;
}

/** Admits requests, runs them on the engine, delivers their tokens and has them metered. The protocol is in src/metering/README.md. */
export class InferenceService {
  private readonly options: InferenceOptions;
  private readonly deps: InferenceDeps;
  private readonly runs = new Map<Uuid, InferenceRun>();
  private readonly recent: RecentOutputs;
  private readonly intake: Intake;
  private readonly stopListening: () => void;
  private readonly admitting = new Map<Attempt, Promise<unknown>>();
  private draining = false;
  private reaper: Periodic | null = null;

  constructor(options: InferenceOptions, deps: InferenceDeps) {
    this.options = options;
    this.deps = deps;
    this.recent = new RecentOutputs(options.recentOutputs, deps);
    this.intake = new Intake(options, deps);
    this.stopListening = deps.lease.onFenced((instanceId) => {
      this.interruptWhere(
        (run) => run.facts.instanceId === instanceId,
        (run) => leaseLost(run.facts.request.id),
      );
    });
  }

  /** Requests that are admitted and not settled here. */
  get live(): number {
    return this.runs.size;
  }

  /** Starts looking for stalled clients, and forgetting answers in time. */
  start(): void {
    this.reaper ??= every(Math.max(100, this.options.stallMs / 4), async () => this.reapStalled());
    this.recent.start();
  }

  /**
   * Runs one inference. Resolves once it is admitted or found to be a retry; rejects, with nothing metered and the
   * idempotency key free, when it is refused. Asking the stream for an event acknowledges that the one before was
   * written; leaving it early, or aborting the signal, cancels the request.
   */
  async infer(
    caller: Caller,
    input: InferenceInput,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<AsyncIterableIterator<InferenceEvent>> {
    return this.admit(caller, input, { ...options, delivery: 'stream' });
  }

  /**
   * Runs one inference and returns its answer as a whole, once it is settled. Aborting the signal cancels the request,
   * which is then metered with what was generated until then. A failure after the start is part of the result.
   */
  async generate(
    caller: Caller,
    input: InferenceInput,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<GenerateResult> {
    const tokens: GeneratedToken[] = [];
    let text = '';
    let end: EndEvent | null = null;
    for await (const event of await this.admit(caller, input, { ...options, delivery: 'whole' })) {
      if (event.kind === 'tokens') {
        tokens.push(...event.tokens);
        text += event.text;
      } else if (event.kind === 'end') {
        end = event;
      }
    }
    if (end === null) throw new Error('A stream ended without its last event');
    const { kind: _kind, ...outcome } = end;
    return { ...outcome, text, tokens };
  }

  /** Ends every request of a key, for instance because it was revoked: those that run, and those being admitted. */
  cancelKey(keyId: Uuid): void {
    for (const attempt of this.admitting.keys()) if (attempt.keyId === keyId) attempt.revoked = true;
    this.interruptWhere((run) => run.facts.keyId === keyId, keyRevoked, 'cancelled');
  }

  /** Ends requests whose client has not come back for longer than the limit. Runs by itself after {@link start}. */
  reapStalled(): void {
    this.interruptWhere(
      (run) => run.stalledMs() >= this.options.stallMs,
      () =>
        new PatchbayError('SLOW_CONSUMER', 'The client did not come back for the next chunk.', {
          meta: { stallMs: this.options.stallMs },
        }),
    );
  }

  /** Refuses new requests, lets the running ones end until the deadline, ends the rest, and writes what is left. */
  async drain(options: { readonly graceMs: number }): Promise<void> {
    this.draining = true;
    await this.reaper?.stop();
    await this.recent.stop();
    const settled = this.settleAll();
    const over = new AbortController();
    await Promise.race([settled.finally(() => over.abort()), pause(options.graceMs, over.signal)]);
    this.interruptWhere(
      () => true,
      () => new PatchbayError('SHUTTING_DOWN', 'The server is draining.'),
      'cancelled',
    );
    await settled;
    this.stopListening();
    await this.deps.recorder.close();
  }

  private async admit(
    caller: Caller,
    input: InferenceInput,
    options: AdmitOptions,
  ): Promise<AsyncIterableIterator<InferenceEvent>> {
    if (!caller.scopes.includes('infer')) {
      throw new PatchbayError('FORBIDDEN', 'The key may not run inferences.', { meta: { scope: 'infer' } });
    }
    this.assertServing();
    const attempt: Attempt = { keyId: caller.keyId, revoked: false };
    const started = this.begin(caller, input, options, attempt);
    this.admitting.set(attempt, started);
    try {
      return await started;
    } finally {
      this.admitting.delete(attempt);
    }
  }

  private async begin(
    caller: Caller,
    input: InferenceInput,
    options: AdmitOptions,
    attempt: Attempt,
  ): Promise<AsyncIterableIterator<InferenceEvent>> {
    const { intake } = this;
    const normal = intake.check(input);
    const keyHash = input.idempotencyKey === undefined ? null : hashIdempotencyKey(input.idempotencyKey);
    // A retry is answered before anything else is looked at: what it names may be gone by now.
    const earlier = await this.findEarlier(caller, normal, keyHash);
    if (earlier !== null) return earlier;
    if (this.runs.size + this.admitting.size > this.options.liveRequestsMax) {
      throw new PatchbayError('ENGINE_FULL', 'Too many requests are running.', {
        meta: { liveRequestsMax: this.options.liveRequestsMax, retryAfterMs: RETRY_AFTER_MS },
      });
    }
    const prepared = await intake.prepare(caller, normal, keyHash);
    const outcome = await this.deps.recorder.admit(prepared.admission);
    if (outcome.kind === 'admitted') {
      return this.launch(prepared, outcome.instanceId, options, attempt);
    }
    if (outcome.kind === 'refused') throw refusalError(outcome.refusal, prepared.admission);
    const winner = await this.findEarlier(caller, normal, keyHash);
    if (winner !== null) return winner;
    // The request that held the key was refused in between; the key is free for the next attempt.
    throw new PatchbayError('IDEMPOTENCY_IN_PROGRESS', 'A request with this key was refused just now.');
  }

  private async launch(
    { request, keyId, price, commitment, admission }: PreparedRequest,
    instanceId: Uuid,
    { signal, delivery }: AdmitOptions,
    attempt: Attempt,
  ): Promise<AsyncIterableIterator<InferenceEvent>> {
    const { engine, recorder, clock, receipts = null } = this.deps;
    const { salt, idempotency } = admission;
    const keepOutput = idempotency !== null;
    const run = new InferenceRun(
      this.options,
      { request, keyId, instanceId, price, commitment, salt, keepOutput, delivery },
      { engine, recorder, clock, pause, receipts },
    );
    this.runs.set(request.id, run);
    try {
      this.assertServing();
      if (attempt.revoked) throw keyRevoked();
      await engine.submit(request, (event) => run.onEngineEvent(event));
    } catch (error) {
      this.runs.delete(request.id);
      // Awaited, so that the key is free when the caller learns of the refusal; a database that is away must not hide
      // why the engine refused, and the void stays queued.
      await recorder.void(admission, instanceId).catch(() => {});
      throw error;
    }
    this.follow(run, signal);
    return run.events;
  }

  /** Delivers an accepted run, and forgets it when it is settled. */
  private follow(run: InferenceRun, signal: AbortSignal | undefined): void {
    // Who aborts may say why: a connection whose key is gone is not a client that left.
    const cancel = (): void => {
      const reason: unknown = signal?.reason;
      run.interrupt(
        reason instanceof PatchbayError ? { reason: 'cancelled', error: reason.toPublic() } : CANCELLED,
      );
    };
    signal?.addEventListener('abort', cancel, { once: true });
    if (signal?.aborted === true) cancel();
    run.accept();
    void run.done.then(() => {
      signal?.removeEventListener('abort', cancel);
      this.runs.delete(run.facts.request.id);
      if (run.facts.keepOutput)
        this.recent.add(run.facts.request.id, run.delivered.text, run.delivered.tokens);
    });
  }

  private async findEarlier(
    caller: Caller,
    input: NormalInput,
    keyHash: Buffer | null,
  ): Promise<AsyncIterableIterator<InferenceEvent> | null> {
    if (keyHash === null) return null;
    const { recorder } = this.deps;
    const stored = await recorder.findIdempotency(caller.tenantId, keyHash);
    if (stored === null) return null;
    if (!isSameRequest(stored, input)) {
      throw new PatchbayError('IDEMPOTENCY_CONFLICT', 'The key belongs to a request with other arguments.', {
        field: 'idempotencyKey',
      });
    }
    const { outcome } = stored;
    if (outcome === null) {
      throw new PatchbayError('IDEMPOTENCY_IN_PROGRESS', 'The request with this key is still running.', {
        meta: { requestId: stored.requestId },
      });
    }
    return replay(outcome, this.recent.find(stored.requestId));
  }

  private interruptWhere(
    applies: (run: InferenceRun) => boolean,
    error: (run: InferenceRun) => PatchbayError,
    reason: 'error' | 'cancelled' = 'error',
  ): void {
    for (const run of this.runs.values()) {
      if (!applies(run)) continue;
      const shown: PublicError = error(run).toPublic();
      run.interrupt({ reason, error: shown });
    }
  }

  private async settleAll(): Promise<void> {
    await Promise.allSettled(this.admitting.values());
    await Promise.all([...this.runs.values()].map((run) => run.done));
  }

  private assertServing(): void {
    if (this.draining) throw new PatchbayError('SHUTTING_DOWN', 'The server is draining.');
  }
}

function keyRevoked(): PatchbayError {
  return new PatchbayError('UNAUTHENTICATED', 'The key was revoked.');
}

/** Says why an admission was refused; where money was the reason, with what the request may cost. */
function refusalError(refusal: Refusal, { charge, promptTokens, maxTokens }: Admission): PatchbayError {
  const { currency, amount: maximum } = charge;
  const quote = { currency, maximum, promptTokens, maxTokens };
  switch (refusal.what) {
    case 'quota':
      return quotaExceeded(refusal);
    case 'budget':
      return overBudget(refusal, quote);
    case 'funds':
      return outOfFunds(refusal, quote);
  }
}
