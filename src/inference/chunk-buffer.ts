import type { GeneratedToken } from '../engine/port.ts';

/** Tokens and the text that became final with them. */
export interface Chunk {
  readonly tokens: readonly GeneratedToken[];
  readonly text: string;
}

/** Collects what the engine generates while the chunk before it is committed and written. */
export class ChunkBuffer {
  private tokens: GeneratedToken[] = [];
  private text = '';

  /** Tokens that wait. */
  get size(): number {
    return this.tokens.length;
  }

  /** Whether nothing waits. */
  get empty(): boolean {
    return this.tokens.length === 0 && this.text === '';
  }

  append(tokens: readonly GeneratedToken[], text: string): void {
    this.tokens.push(...tokens);
    this.text += text;
  }

  /** Everything that waits, as one chunk. */
  take(): Chunk {
    const chunk = { tokens: this.tokens, text: this.text };
    this.tokens = [];
    this.text = '';
    return chunk;
  }
}
