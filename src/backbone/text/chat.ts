import { PatchbayError } from '../../kernel/errors.ts';
import type { TextRange } from './encoder.ts';
import { type ChatMessage, renderChat, selectTemplate } from './templates.ts';
import type { BackboneTokenizer } from './tokenizer.ts';

/** Options of {@link ChatEncoder.encodeChat}. */
export interface ChatOptions {
  /** Ends the prompt with the header of the assistant's turn; default true. */
  readonly addGenerationPrompt?: boolean;
  /** Which of the checkpoint's templates; default `default`. */
  readonly template?: string;
  /** What the template's clock shows; default now. */
  readonly now?: Date;
}

/** A conversation as the model reads it. */
export interface EncodedChat {
  readonly ids: readonly number[];
  /** The rendered text; encoding it again would give special tokens in contents their power back. */
  readonly text: string;
}

/**
 * Encodes conversations so that special tokens come from the template only. The template is the operator's, the
 * contents are anybody's: a content with `<|end|><|assistant|>` must not end its turn.
 *
 * Encoding template and contents apart would be safe, but gives other ids than training saw wherever a merge or a
 * pre-token spans the seam. So the rendered text is encoded as a whole, and special tokens are not parsed where they
 * touch *dangerous* spans: those of a content that hold a special token, or begin or end like a part of one, which
 * text beside it might complete. To find the spans after the template trimmed, split or moved the contents, the
 * conversation is rendered a second time with a pair of private-use characters around each of them. Without these
 * characters it must equal the first rendering; when it does not (the template looks into the content, or changes
 * it), the request is refused. Contents without dangerous spans, nearly all of them, are rendered once and encode
 * exactly as transformers encodes them.
 */
export class ChatEncoder {
  readonly #tokenizer: BackboneTokenizer;
  readonly #dangers: DangerFinder;

  constructor(tokenizer: BackboneTokenizer) {
    this.#tokenizer = tokenizer;
    this.#dangers = new DangerFinder(tokenizer.specialTexts);
  }

  /** Renders and encodes; throws `CHAT_TEMPLATE`, `BAD_INPUT` or `PROMPT_EMPTY`. BOS comes from the template. */
  encodeChat(messages: readonly ChatMessage[], options: ChatOptions = {}): EncodedChat {
    const template = selectTemplate(this.#tokenizer.chatTemplates, options.template);
    // Both renderings must see the same time.
    const render = {
      addGenerationPrompt: options.addGenerationPrompt ?? true,
      now: options.now ?? new Date(),
    };
    const text = renderChat(messages, template, this.#tokenizer.specials, render);
    const dangers = messages.map(({ content }) => this.#dangers.find(content));
    if (dangers.every((spans) => spans.length === 0)) {
      return { ids: this.#tokenizer.encodeShielded(text, []), text };
    }
    const marks = unusedPair([template, text, ...messages.map(({ content }) => content)]);
    const marked = messages.map(({ role, content }, index) => ({
      role,
      content: mark(content, dangers[index] ?? [], marks),
    }));
    const shielded = unmark(this.#renderMarked(marked, template, render), marks);
    if (shielded === null || shielded.text !== text) throw ambiguous();
    return { ids: this.#tokenizer.encodeShielded(text, shielded.ranges), text };
  }

  #renderMarked(
    messages: readonly ChatMessage[],
    template: string,
    render: { readonly addGenerationPrompt: boolean; readonly now: Date },
  ): string {
    try {
      return renderChat(messages, template, this.#tokenizer.specials, render);
    } catch (cause) {
      // The plain contents did render, so the marks are what the template refuses.
      throw ambiguous(cause);
    }
  }
}

function ambiguous(cause?: unknown): PatchbayError {
  return new PatchbayError(
    'CHAT_TEMPLATE',
    'A message contains the text of a special token where the chat template inspects or changes it.',
    {
      fix: 'Remove the special token from the message, or send a raw prompt.',
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

/** Finds the spans of a content that could be, or help to form, a special token. */
class DangerFinder {
  readonly #inside: RegExp | null;
  /** Every proper beginning and ending of a special token. */
  readonly #heads = new Set<string>();
  readonly #tails = new Set<string>();
  readonly #specials: readonly string[];
  readonly #longest: number;

  constructor(specials: readonly string[]) {
    this.#specials = specials;
    this.#longest = Math.max(0, ...specials.map((special) => special.length));
    const longestFirst = [...specials].sort((a, b) => b.length - a.length);
    const escaped = longestFirst.map((special) => special.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&'));
    // The lookahead reports overlapping occurrences; case is ignored because templates may change it.
    this.#inside = specials.length === 0 ? null : new RegExp(`(?=(${escaped.join('|')}))`, 'gi');
    for (const special of specials) {
      for (let cut = 1; cut < special.length; cut += 1) {
        this.#heads.add(special.slice(0, cut));
        this.#tails.add(special.slice(cut));
      }
    }
  }

  find(content: string): readonly TextRange[] {
    if (this.#inside === null) return [];
    const spans: TextRange[] = [];
    for (const match of content.matchAll(this.#inside)) {
      spans.push({ start: match.index, end: match.index + (match[1]?.length ?? 0) });
    }
    // Templates trim contents, so what begins the trimmed content may meet the template's text as well.
    const start = content.length - content.trimStart().length;
    const end = Math.max(start, content.trimEnd().length);
    for (const [from, to] of [[0, content.length] as const, [start, end] as const]) {
      const whole = content.slice(from, to);
      if (whole !== '' && whole.length < this.#longest && this.#specials.some((s) => s.includes(whole))) {
        spans.push({ start: from, end: to });
      }
      for (let length = Math.min(this.#longest - 1, to - from); length > 0; length -= 1) {
        if (this.#tails.has(content.slice(from, from + length)))
          spans.push({ start: from, end: from + length });
        if (this.#heads.has(content.slice(to - length, to))) spans.push({ start: to - length, end: to });
      }
    }
    return merge(spans);
  }
}

function merge(spans: readonly TextRange[]): readonly TextRange[] {
  const merged: TextRange[] = [];
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    const last = merged.at(-1);
    if (last === undefined || span.start > last.end) merged.push(span);
    else merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, span.end) };
  }
  return merged;
}

interface Marks {
  readonly open: string;
  readonly close: string;
}

/** Two private-use characters that none of the texts contains; white-space filters leave them alone. */
function unusedPair(texts: readonly string[]): Marks {
  const used = new Set(texts.flatMap((text) => text.match(/[\uE000-\uF8FF]/g) ?? []));
  const free: string[] = [];
  for (let code = 0xe000; code <= 0xf8ff && free.length < 2; code += 1) {
    const char = String.fromCharCode(code);
    if (!used.has(char)) free.push(char);
  }
  const [open, close] = free;
  if (open === undefined || close === undefined) throw ambiguous();
  return { open, close };
}

function mark(content: string, spans: readonly TextRange[], marks: Marks): string {
  let text = '';
  let from = 0;
  for (const { start, end } of spans) {
    text += content.slice(from, start) + marks.open + content.slice(start, end) + marks.close;
    from = end;
  }
  return text + content.slice(from);
}

/** Takes the marks out again; null when they are not in pairs any more. */
function unmark(
  marked: string,
  marks: Marks,
): { readonly text: string; readonly ranges: readonly TextRange[] } | null {
  const ranges: TextRange[] = [];
  let text = '';
  let start: number | null = null;
  for (const part of marked.split(new RegExp(`([${marks.open}${marks.close}])`))) {
    if (part === marks.open) {
      if (start !== null) return null;
      start = text.length;
    } else if (part === marks.close) {
      if (start === null) return null;
      ranges.push({ start, end: text.length });
      start = null;
    } else {
      text += part;
    }
  }
  return start === null ? { text, ranges } : null;
}
