import type {
  Engine,
  EngineInfo,
  EngineStatus,
  FinishReason,
  GeneratedToken,
  ProbeResult,
  ResidencyHour,
  SequenceEvent,
  SequenceRequest,
  SequenceUsage,
} from '../../../src/engine/port.ts';
import { PatchbayError, type PublicError } from '../../../src/kernel/errors.ts';
import { waitFor } from '../../kit/wait.ts';

const INFO: EngineInfo = {
  backboneDigest: 'b0'.repeat(32),
  shape: {
    family: 'llama',
    hiddenSize: 8,
    layers: 1,
    heads: 1,
    kvHeads: 1,
    headDim: 8,
    intermediateSize: 8,
    vocabSize: 1_000,
    maxPositions: 4_096,
    rmsNormEps: 1e-5,
    ropeTheta: 10_000,
    ropeScaling: null,
    tiedEmbeddings: true,
    qkvBias: false,
    qkNorm: false,
  },
  maxContext: 4_096,
  maxRank: 64,
  maxBlend: 4,
  eosTokenIds: [0],
};

/** One live sequence of the {@link FakeEngine}, played by the test. */
export class FakeSequence {
  readonly request: SequenceRequest;
  readonly generated: GeneratedToken[] = [];
  ended = false;
  cancelled = false;
  /** How much of the prompt it says that it had. */
  cachedPromptTokens = 1;
  private readonly onEvent: (event: SequenceEvent) => void;
  private readonly onEnd: () => void;

  constructor(request: SequenceRequest, onEvent: (event: SequenceEvent) => void, onEnd: () => void) {
    this.request = request;
    this.onEvent = onEvent;
    this.onEnd = onEnd;
  }

  /** Generates tokens in one event; their text is their id and a space. */
  emit(...ids: number[]): void {
    if (this.ended) return;
    const tokens = ids.map((id) => ({ id, logprob: -id / 1000 }));
    this.generated.push(...tokens);
    const text = ids.map((id) => `${id} `).join('');
    this.onEvent({ kind: 'tokens', tokens, text, cachedPromptTokens: this.cachedPromptTokens });
  }

  end(reason: FinishReason, error?: PublicError, usage: Partial<SequenceUsage> = {}): void {
    if (this.ended) return;
    this.ended = true;
    this.onEnd();
    this.onEvent({
      kind: 'end',
      reason,
      text: '',
      usage: {
        promptTokens: this.request.promptIds.length,
        completionTokens: this.generated.length,
        cachedPromptTokens: this.cachedPromptTokens,
        queueMs: 1.5,
        prefillMs: 2.25,
        decodeMs: this.generated.length,
        computeMs: 0.125 * (1 + this.generated.length),
        bytesLoaded: 4_096,
        executed: this.request.adapters,
        ...usage,
      },
      ...(error === undefined ? {} : { error }),
    });
  }
}

/** An engine whose sequences do what the test says: by hand, or by a script that plays each one to its end. */
export class FakeEngine implements Engine {
  readonly info = INFO;
  readonly live = new Map<string, FakeSequence>();
  /** Every sequence ever accepted, in order. */
  readonly all: FakeSequence[] = [];
  /** Refuses the next submissions with these. */
  readonly refusals: PatchbayError[] = [];
  /** When set, plays every accepted sequence. */
  script: ((sequence: FakeSequence) => Promise<void>) | null = null;
  /** What the next drain of residency tells. */
  readonly residency: ResidencyHour[] = [];
  /** When false, a cancelled sequence ends only by hand. */
  endsOnCancel = true;

  async submit(request: SequenceRequest, onEvent: (event: SequenceEvent) => void): Promise<void> {
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    if (this.live.has(request.id)) throw new PatchbayError('BAD_INPUT', 'The sequence is live already.');
    const sequence = new FakeSequence(request, onEvent, () => this.live.delete(request.id));
    this.live.set(request.id, sequence);
    this.all.push(sequence);
    void this.script?.(sequence);
  }

  cancel(id: string): void {
    const sequence = this.live.get(id);
    if (sequence === undefined || sequence.cancelled) return;
    sequence.cancelled = true;
    // Like the real engine: the end comes later, never from inside the call.
    if (this.endsOnCancel) setImmediate(() => sequence.end('cancelled'));
  }

  /** The n-th sequence that was accepted, as soon as there is one. */
  async sequence(index: number): Promise<FakeSequence> {
    await waitFor(() => this.all.length > index, { what: `sequence ${index}` });
    const found = this.all[index];
    if (found === undefined) throw new Error(`No sequence ${index}`);
    return found;
  }

  probe(): Promise<ProbeResult> {
    return Promise.resolve({ finite: true, maxAbsDifference: 1 });
  }

  status(): Promise<EngineStatus> {
    return Promise.reject(new Error('The fake engine has no status'));
  }

  drainResidency(): Promise<readonly ResidencyHour[]> {
    return Promise.resolve(this.residency.splice(0));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A script: generates `count` tokens one event-loop turn apart, then ends. */
export function plays(
  count: (request: SequenceRequest) => number,
): (sequence: FakeSequence) => Promise<void> {
  return async (sequence) => {
    const total = count(sequence.request);
    for (let i = 0; i < total && !sequence.ended; i += 1) {
      await new Promise(setImmediate);
      sequence.emit(1 + ((sequence.request.promptIds.length * 31 + i) % 999));
    }
    sequence.end(total >= sequence.request.stop.maxTokens ? 'length' : 'stop');
  };
}
