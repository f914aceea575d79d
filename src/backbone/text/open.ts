import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PatchbayError } from '../../kernel/errors.ts';
import { ChatEncoder, type ChatOptions, type EncodedChat } from './chat.ts';
import { createStreamDecoderFactory, type TextStream } from './stream-decoder.ts';
import type { ChatMessage } from './templates.ts';
import { type BackboneTokenizer, loadTokenizer } from './tokenizer.ts';

/** Everything that turns text into ids and back for one backbone. */
export interface BackboneText {
  /** Null when the checkpoint has no `tokenizer.json`: it serves token ids only, and its output has no text. */
  readonly tokenizer: BackboneTokenizer | null;
  readonly decoderFactory: () => TextStream;
  /** Encodes a raw prompt; see {@link BackboneTokenizer.encodePrompt}. */
  encodePrompt(prompt: string): number[];
  /** Renders and encodes a conversation; see {@link ChatEncoder}. */
  encodeChat(messages: readonly ChatMessage[], options?: ChatOptions): EncodedChat;
}

/** What of a backbone's manifest matters for text. */
export interface TextManifest {
  readonly shape: { readonly vocabSize: number };
}

/** Opens the tokenizer of a backbone's folder. A checkpoint without one can still be served by token ids. */
export function openText(dir: string, manifest: TextManifest): BackboneText {
  if (!existsSync(join(dir, 'tokenizer.json'))) return withoutTokenizer();
  const tokenizer = loadTokenizer(dir, { vocabSize: manifest.shape.vocabSize });
  const chat = new ChatEncoder(tokenizer);
  return {
    tokenizer,
    decoderFactory: createStreamDecoderFactory(tokenizer),
    encodePrompt: (prompt) => tokenizer.encodePrompt(prompt),
    encodeChat: (messages, options) => chat.encodeChat(messages, options),
  };
}

function withoutTokenizer(): BackboneText {
  const refuse = (): never => {
    throw new PatchbayError(
      'FILE_MISSING',
      'The backbone has no tokenizer.json, so it takes token ids only.',
      {
        fix: 'Send token ids, or import the checkpoint again with its tokenizer.',
      },
    );
  };
  return {
    tokenizer: null,
    decoderFactory: () => ({ push: () => '', end: () => '' }),
    encodePrompt: refuse,
    encodeChat: refuse,
  };
}
