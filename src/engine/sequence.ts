import { PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import type { FinishReason, GeneratedToken, SequenceEvent, SequenceRequest, SequenceUsage } from './port.ts';
import type { LogitSummary, StreamDecoder } from './runner.ts';
import { greedyOnly, type Sampler } from './sampler.ts';
import { atLength, createStopScanner, type StopScanner, stopTokenIds } from './stop.ts';

/** How a sequence ended. */
export interface Outcome {
  readonly reason: FinishReason;
  /** Present when the reason is `error`. */
  readonly error?: PatchbayError;
}

/** What the loop measured about a sequence; units as in {@link SequenceUsage}. */
export type Figures = Omit<SequenceUsage, 'promptTokens' | 'completionTokens'>;

/** What the loop runs: it has tokens, does something with logits, and learns of its end exactly once. */
export interface Consumer {
  /** Prompt and completion so far. */
  readonly tokens: readonly number[];
  /** Whether it takes a summary of the logits for the logits. */
  readonly greedy: boolean;
  /** Takes the logits after its last token; they are only valid during the call. Returns how it ended, if it did. */
  draw(logits: Float32Array | LogitSummary): Outcome | null;
  /** Passes on what the last draw gave, and how much of the prompt was found; returns how many tokens were drawn. */
  publish(cachedPromptTokens: number): number;
  end(outcome: Outcome, figures: Figures): void;
}

export interface GenerationDeps {
  readonly sampler: Sampler;
  readonly decoder: StreamDecoder;
  readonly eosTokenIds: readonly number[];
  readonly maxContext: number;
  readonly onEvent: (event: SequenceEvent) => void;
}

/** A request that generates text: draws tokens, applies the stop rules and reports events. */
export class Generation implements Consumer {
  readonly greedy: boolean;
  readonly #request: SequenceRequest;
  readonly #deps: GenerationDeps;
  readonly #tokens: number[];
  readonly #seen: Set<number>;
  readonly #stopIds: ReadonlySet<number>;
  readonly #scanner: StopScanner;
  #unpublished: { readonly token: GeneratedToken; readonly text: string } | null = null;

  constructor(request: SequenceRequest, deps: GenerationDeps) {
    this.#request = request;
    this.#deps = deps;
    this.greedy = greedyOnly(request);
    this.#tokens = [...request.promptIds];
    this.#seen = new Set(request.sampling.repetitionPenalty === 1 ? [] : request.promptIds);
    this.#stopIds = stopTokenIds(request.stop, deps.eosTokenIds);
    this.#scanner = createStopScanner(request.stop.strings);
  }

  get tokens(): readonly number[] {
    return this.#tokens;
  }

  get completionTokens(): number {
    return this.#tokens.length - this.#request.promptIds.length;
  }

  draw(logits: Float32Array | LogitSummary): Outcome | null {
    const { sampling, topLogprobs, stop, promptIds } = this.#request;
    const step = this.completionTokens;
    const token = this.#deps.sampler.sample({
      logits,
      params: sampling,
      seen: this.#seen,
      step,
      topLogprobs,
    });
    if (token === null) {
      return {
        reason: 'error',
        error: new PatchbayError('ENGINE_FAILED', 'The model gave logits that are not finite.'),
      };
    }
    this.#tokens.push(token.id);
    if (sampling.repetitionPenalty !== 1) this.#seen.add(token.id);
    // Set before the decoder runs: if that fails, the token was generated all the same, so it is reported.
    this.#unpublished = { token, text: '' };
    // A stop token counts; its text does not exist for the reader, so the decoder never sees it.
    if (this.#stopIds.has(token.id)) return { reason: 'stop' };
    const { text, stopped } = this.#scanner.push(this.#deps.decoder.push([token.id]));
    this.#unpublished = { token, text };
    if (stopped) return { reason: 'stop' };
    const full = atLength({
      promptTokens: promptIds.length,
      completionTokens: this.completionTokens,
      maxTokens: stop.maxTokens,
      maxContext: this.#deps.maxContext,
    });
    return full ? { reason: 'length' } : null;
  }

  publish(cachedPromptTokens: number): number {
    if (this.#unpublished === null) return 0;
    const { token, text } = this.#unpublished;
    this.#unpublished = null;
    this.#deps.onEvent({ kind: 'tokens', tokens: [token], text, cachedPromptTokens });
    return 1;
  }

  end(outcome: Outcome, figures: Figures): void {
    const { text, stopped } = this.#lastText();
    // A stop string that only the decoder's last characters complete ends the text like any other.
    const reason = stopped && outcome.reason === 'length' ? 'stop' : outcome.reason;
    const usage = {
      promptTokens: this.#request.promptIds.length,
      completionTokens: this.completionTokens,
      ...figures,
    };
    const error = outcome.reason === 'error' ? { error: toPatchbayError(outcome.error).toPublic() } : {};
    this.#deps.onEvent({ kind: 'end', reason, text, usage, ...error });
  }

  #lastText(): { readonly text: string; readonly stopped: boolean } {
    let rest = '';
    try {
      rest = this.#deps.decoder.end();
    } catch {
      // The decoder's failure has ended or will end nothing more: what it withheld is lost, the end event is not.
    }
    const { text, stopped } = this.#scanner.push(rest);
    return { text: text + this.#scanner.flush(), stopped };
  }
}
