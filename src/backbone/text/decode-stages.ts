import { invalid, isAbsent, isJson, type Json, show, unsupported } from './files.ts';

/**
 * One step of a decoder, as a transducer: pieces of text go in, final pieces come out, and what the step may still
 * change stays inside. `literal` marks an added token, whose text a byte-level decoder takes as it stands.
 */
export interface Stage {
  push(piece: string, literal: boolean): readonly string[];
  end(): readonly string[];
}

type StageFactory = () => Stage;

/** What the pieces that reach a step are: whole tokens, parts of one token, or parts of the fused text. */
type Pieces = 'tokens' | 'parts' | 'fused';

/**
 * Compiles the `decoder` of `tokenizer.json` into factories of transducers, one per step. Their combined output for
 * any split of the ids equals the library's decoding of the whole; decoders that can only be applied to a finished
 * text (WordPiece, CTC, BPE suffixes) are refused, because no causal model of a supported family uses them.
 */
export function compileDecoder(decoder: unknown): readonly StageFactory[] {
  // Without a decoder the reference joins the tokens with spaces.
  if (isAbsent(decoder)) return [joinWithSpaces];
  const factories: StageFactory[] = [];
  let pieces: Pieces = 'tokens';
  for (const { config, path } of flatten(decoder, 'decoder')) {
    if (config['type'] === 'Fuse') {
      pieces = 'fused';
      continue;
    }
    factories.push(compileStep(config, path, pieces, factories.length === 0));
    if (pieces === 'tokens' && (config['type'] === 'ByteFallback' || config['type'] === 'ByteLevel')) {
      pieces = 'parts';
    }
  }
  return factories;
}

function* flatten(value: unknown, path: string): Generator<{ readonly config: Json; readonly path: string }> {
  if (!isJson(value)) throw invalid('tokenizer.json', path, `expected an object, found ${show(value)}`);
  if (value['type'] !== 'Sequence') {
    yield { config: value, path };
    return;
  }
  const list = value['decoders'];
  if (!Array.isArray(list)) {
    throw invalid('tokenizer.json', `${path}.decoders`, `expected a list, found ${show(list)}`);
  }
  for (const [index, item] of list.entries()) yield* flatten(item, `${path}.decoders[${index}]`);
}

function compileStep(config: Json, path: string, pieces: Pieces, first: boolean): StageFactory {
  const type = config['type'];
  switch (type) {
    case 'ByteLevel':
      if (!first || pieces !== 'tokens')
        throw unsupported(path, 'ByteLevel after another step is not served');
      return byteLevel;
    case 'ByteFallback':
      if (pieces !== 'tokens') throw unsupported(path, 'ByteFallback after this step is not served');
      return byteFallback;
    case 'Replace':
      return replace(config, path, pieces);
    case 'Strip':
      return strip(config, path, pieces);
    case 'Metaspace':
      return metaspace(config, path, pieces);
    default:
      throw unsupported(path, `the decoder ${show(type)} cannot be streamed exactly`);
  }
}

function joinWithSpaces(): Stage {
  let started = false;
  return {
    push(piece) {
      const text = started ? ` ${piece}` : piece;
      started = true;
      return [text];
    },
    end: () => [],
  };
}

/** GPT-2's table from printable characters to bytes: printable Latin-1 stands for itself, the rest is shifted up. */
const BYTE_OF: ReadonlyMap<string, number> = (() => {
  const table = new Map<string, number>();
  let shifted = 256;
  for (let byte = 0; byte < 256; byte += 1) {
    const printable =
      (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    table.set(String.fromCharCode(printable ? byte : shifted), byte);
    if (!printable) shifted += 1;
  }
  return table;
})();

function byteLevel(): Stage {
  const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  return {
    push(piece, literal) {
      return literal ? [utf8.decode() + piece] : [utf8.decode(bytesOf(piece), { stream: true })];
    },
    end: () => [utf8.decode()],
  };
}

function bytesOf(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const char of token) {
    const byte = BYTE_OF.get(char);
    // As in the reference: a token outside of the byte alphabet stands for its own text.
    if (byte === undefined) return new TextEncoder().encode(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function byteFallback(): Stage {
  // The library decodes every run of byte tokens with a fresh decoder that drops a byte-order mark, so does this.
  // The Rust reference instead turns every byte of a run into U+FFFD when any part of the run is invalid, which
  // nobody can know before the run ends; valid runs are the same in both.
  const utf8 = new TextDecoder('utf-8');
  let running = false;
  return {
    push(piece) {
      const byte = byteOfFallback(piece);
      if (byte !== null) {
        running = true;
        return [utf8.decode(Uint8Array.of(byte), { stream: true })];
      }
      const rest = running ? utf8.decode() : '';
      running = false;
      return rest === '' ? [piece] : [rest, piece];
    },
    end: () => (running ? [utf8.decode()] : []),
  };
}

function byteOfFallback(token: string): number | null {
  if (token.length !== 6 || !token.startsWith('<0x') || !token.endsWith('>')) return null;
  const byte = Number.parseInt(token.slice(3, 5), 16);
  return Number.isNaN(byte) ? null : byte;
}

function replace(config: Json, path: string, pieces: Pieces): StageFactory {
  const pattern = config['pattern'];
  const content = config['content'];
  const text = isJson(pattern) ? pattern['String'] : undefined;
  if (typeof text !== 'string' || text === '' || typeof content !== 'string') {
    throw unsupported(path, 'a decoder that replaces something else than a fixed text is not served');
  }
  if (pieces !== 'tokens' && [...text].length !== 1) {
    throw unsupported(path, 'replacing several characters across tokens cannot be streamed');
  }
  // A function, so that `$` in the content has no meaning.
  return () => ({ push: (piece) => [piece.replaceAll(text, () => content)], end: () => [] });
}

function strip(config: Json, path: string, pieces: Pieces): StageFactory {
  const content = config['content'];
  if (typeof content !== 'string' || content.length !== 1) {
    throw invalid('tokenizer.json', `${path}.content`, `expected one character, found ${show(content)}`);
  }
  const start = count(config, 'start', path);
  const stop = count(config, 'stop', path);
  if (pieces === 'tokens') {
    return () => ({ push: (piece) => stripFused(content, start, stop).push(piece, false), end: () => [] });
  }
  if (pieces === 'parts') throw unsupported(path, 'Strip after bytes needs a Fuse between them');
  return () => stripFused(content, start, stop);
}

/** Drops at most `start` leading and `stop` trailing occurrences; possible trailing ones are held back. */
function stripFused(content: string, start: number, stop: number): Stage {
  let leading = start;
  let held = '';
  return {
    push(piece) {
      let from = 0;
      while (leading > 0 && from < piece.length) {
        if (piece[from] === content) {
          from += 1;
          leading -= 1;
        } else {
          leading = 0;
        }
      }
      const text = held + piece.slice(from);
      let keep = text.length;
      while (text.length - keep < stop && text[keep - 1] === content) keep -= 1;
      held = text.slice(keep);
      return [text.slice(0, keep)];
    },
    end: () => [],
  };
}

function metaspace(config: Json, path: string, pieces: Pieces): StageFactory {
  const replacement = config['replacement'] ?? '▁';
  if (typeof replacement !== 'string' || [...replacement].length !== 1) {
    const found = show(replacement);
    throw invalid('tokenizer.json', `${path}.replacement`, `expected one character, found ${found}`);
  }
  if (config['prepend_scheme'] === 'never' || config['add_prefix_space'] === false) {
    throw unsupported(path, 'a Metaspace decoder that keeps the first space is not served');
  }
  if (pieces === 'parts') throw unsupported(path, 'Metaspace after bytes needs a Fuse between them');
  if (pieces === 'fused') {
    return () => {
      const inner = stripFused(' ', 1, 0);
      return { push: (piece) => inner.push(piece.replaceAll(replacement, ' '), false), end: () => [] };
    };
  }
  return () => {
    let first = true;
    return {
      push(piece) {
        // The decoder drops the space of the first token only.
        const text = piece.replaceAll(replacement, ' ');
        const trimmed = first && text.startsWith(' ') ? text.slice(1) : text;
        first = false;
        return [trimmed];
      },
      end: () => [],
    };
  };
}

function count(config: Json, field: string, path: string): number {
  const value = config[field] ?? 0;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) {
    throw invalid('tokenizer.json', `${path}.${field}`, `expected a count, found ${show(value)}`);
  }
  return value;
}
