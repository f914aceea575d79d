import type { Stage } from './decode-stages.ts';

/** What a stream decoder needs of a tokenizer. */
export interface DecodingSource {
  /** The token's text and whether it is an added token; null for special tokens and ids without a token. */
  visibleToken(id: number): { readonly text: string; readonly literal: boolean } | null;
  /** Fresh transducers of the tokenizer's decoder. */
  stages(): readonly Stage[];
}

/** Structurally the engine's `StreamDecoder`; this layer does not import the engine. */
export interface TextStream {
  /** Text that is final after these tokens: never half a character, never changed later. */
  push(tokenIds: readonly number[]): string;
  /** The rest, at the end of the sequence (incomplete bytes become U+FFFD). */
  end(): string;
}

/**
 * Makes decoders that turn ids into text as they arrive. All pushes and the end concatenate to
 * `tokenizer.decode(all ids)`, however the ids are split.
 *
 * The customary way (transformers' `TextStreamer`, vLLM's `detokenize_incrementally`) decodes a window of recent ids
 * twice, sends the difference, and waits while the text ends in U+FFFD. That guess is wrong for invalid bytes: it
 * either waits for ever or gives up and sends something that the whole decodes differently. Here every step of the
 * decoder is a transducer with its own state, so each token costs its own length, at most three bytes of an
 * incomplete character are held back (UTF-8 knows after three whether the fourth can complete them), and a byte that
 * can no longer belong to a character becomes U+FFFD at once. Spaces before punctuation are kept: transformers'
 * `clean_up_tokenization_spaces` would change text that was already sent.
 */
export function createStreamDecoderFactory(source: DecodingSource): () => TextStream {
  return () => {
    const stages = source.stages();
    let ended = false;
    return {
      push(tokenIds) {
        if (ended) return '';
        let text = '';
        for (const id of tokenIds) {
          const token = source.visibleToken(id);
          if (token !== null) text += run(stages, 0, token.text, token.literal);
        }
        return text;
      },
      end() {
        if (ended) return '';
        ended = true;
        let text = '';
        for (const [index, stage] of stages.entries()) {
          for (const piece of stage.end()) text += run(stages, index + 1, piece, false);
        }
        return text;
      },
    };
  };
}

/** Sends one piece through the stages from an index on. Empty pieces still count: they may be the first token. */
function run(stages: readonly Stage[], from: number, piece: string, literal: boolean): string {
  const stage = stages[from];
  if (stage === undefined) return piece;
  let text = '';
  for (const out of stage.push(piece, literal)) text += run(stages, from + 1, out, literal);
  return text;
}
