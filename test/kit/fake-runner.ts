import type { KvSnapshots, PackedAdapter, RowWork, StepOutput, StepRunner } from '../../src/engine/runner.ts';
import type { Clock } from '../../src/kernel/clock.ts';
import type { ModelShape } from '../../src/kernel/model.ts';

/** A clock that moves only when told to. */
export class ManualClock implements Clock {
  #ms = 0;

  nowMs(): number {
    return this.#ms;
  }

  monotonicMs(): number {
    return this.#ms;
  }

  advance(ms: number): void {
    this.#ms += ms;
  }
}

export interface FakeRunnerOptions {
  readonly vocabSize: number;
  readonly maxContext: number;
  readonly kvBytesPerToken: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
  /** Most rows of a step; rows that are paused may be open besides. */
  readonly maxRows: number;
  /** Most prompt tokens per run, as the engine under test was told. */
  readonly prefillTokensPerStep: number;
  /** Advanced by the given time in every run. */
  readonly clock?: ManualClock;
  readonly stepMs: number;
  /** Awaited in every run, so that a test can hold a step back. */
  readonly gate?: () => Promise<void>;
  /** Throws in the runs for which it returns true. */
  readonly failsOn?: (run: number, work: readonly RowWork[]) => boolean;
  /** Told a row's tokens so far; where it returns true, the logits hold a NaN. */
  readonly breaksRow?: (tokens: readonly number[]) => boolean;
}

export const FAKE_RUNNER_DEFAULTS: FakeRunnerOptions = {
  vocabSize: 32,
  maxContext: 64,
  kvBytesPerToken: 10,
  kvBudgetBytes: 10_000,
  bankPages: 16,
  maxRows: 16,
  prefillTokensPerStep: 256,
  stepMs: 1,
};

const FLOATS_PER_TOKEN = 2;

interface Row {
  readonly maxTokens: number;
  readonly tokens: number[];
  adapters: string | null;
  /** What the adapters must be whose keys and values it was begun with. */
  restored: number | null;
  mark: number | null;
  /** Set by a failed run: the cache's content is unknown, so only closing the row is right. */
  broken: boolean;
}

/** Murmur3's finaliser: every input bit changes every output bit with probability one half. */
function mix(h: number, value: number): number {
  let x = Math.imul(h ^ value, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** An adapter's content is what steps read, so a mix-up of weights shows even where digests are right. */
export function adapterSignature(uses: RowWork['adapters']): string {
  return uses
    .map(({ adapter, weight }) => `${adapter.pages.map((page) => page.join(',')).join(';')}*${weight}`)
    .join('|');
}

/** An exact float that stands for adapters in any order. */
function adapterMark(uses: RowWork['adapters']): number {
  const parts = uses.map((use) => adapterSignature([use])).sort();
  let h = 1;
  for (const char of parts.join('|')) h = mix(h, char.charCodeAt(0));
  return h >>> 8;
}

/**
 * Logits as a pure function of a sequence's own tokens and adapters. Anything that leaks between sequences, or any
 * token out of order, gives other logits and so other tokens.
 */
export function fakeLogits(tokens: readonly number[], signature: string, vocabSize: number): Float32Array {
  let h = 0x9e3779b9;
  for (const token of tokens) h = mix(h, token + 1);
  for (let i = 0; i < signature.length; i++) h = mix(h, signature.charCodeAt(i));
  return Float32Array.from({ length: vocabSize }, (_, id) => (mix(h, id + 0x51ed) / 0x100000000) * 12 - 6);
}

/** A runner without a model that checks every rule of the {@link StepRunner} contract and throws on misuse. */
export class FakeRunner implements StepRunner {
  readonly shape: ModelShape;
  readonly maxContext: number;
  readonly kvBudgetBytes: number;
  readonly bankPages: number;
  readonly options: FakeRunnerOptions;
  readonly snapshots: KvSnapshots = {
    floatsPerToken: FLOATS_PER_TOKEN,
    save: (row, fromToken, into) => this.#save(row, fromToken, into),
    restore: (row, blocks) => this.#restore(row, blocks),
  };
  /** Tokens that rows were begun with. */
  restoredTokens = 0;
  /** What was misused, in order; a test expects it to be empty, because the engine swallows what a runner throws. */
  readonly misuses: string[] = [];
  readonly runs: RowWork[][] = [];
  disposed = false;
  #nextRow = 0;
  #running = false;
  #last: Float32Array[] = [];
  readonly bankPageBytes = 4;
  #bank: ReadonlyMap<string, number> = new Map();
  #bankGeneration = 0;
  readonly #rows = new Map<number, Row>();

  constructor(options: Partial<FakeRunnerOptions> = {}) {
    this.options = { ...FAKE_RUNNER_DEFAULTS, ...options };
    this.maxContext = this.options.maxContext;
    this.kvBudgetBytes = this.options.kvBudgetBytes;
    this.bankPages = this.options.bankPages;
    this.shape = fakeShape(this.options);
  }

  get openRows(): number {
    return this.#rows.size;
  }

  kvBytes(tokens: number): number {
    return tokens * this.options.kvBytesPerToken;
  }

  open(maxTokens: number): number {
    this.#check(!this.#running, 'open during a run');
    this.#check(maxTokens > 0 && maxTokens <= this.maxContext, 'open with a wrong size');
    this.#rows.set(this.#nextRow, {
      maxTokens,
      tokens: [],
      adapters: null,
      restored: null,
      mark: null,
      broken: false,
    });
    let used = 0;
    for (const row of this.#rows.values()) used += this.kvBytes(row.maxTokens);
    this.#check(used <= this.kvBudgetBytes, `KV over-commit: ${used}`);
    return this.#nextRow++;
  }

  close(row: number): void {
    this.#check(!this.#running, 'close during a run');
    this.#check(this.#rows.delete(row), `close of unknown row ${row}`);
  }

  async run(work: readonly RowWork[]): Promise<StepOutput> {
    this.#check(!this.#running && !this.disposed, 'run during a run or after dispose');
    this.#running = true;
    try {
      for (const old of this.#last) old.fill(Number.NaN);
      this.#checkStep(work);
      this.runs.push([...work]);
      await this.options.gate?.();
      this.options.clock?.advance(this.options.stepMs);
      if (this.options.failsOn?.(this.runs.length - 1, work) === true) {
        for (const { row } of work) this.#row(row).broken = true;
        throw new Error('the fake runner was told to fail');
      }
      const logits = work.map((item) => this.#append(item));
      this.#last = logits.filter((row) => row !== null);
      const { stepMs } = this.options;
      return {
        logits,
        timing: { modelMs: stepMs * 0.75, adapterMs: stepMs * 0.125, hostMs: stepMs * 0.125 },
      };
    } finally {
      this.#running = false;
    }
  }

  get bankGeneration(): number {
    return this.#bankGeneration;
  }

  heldPages(): ReadonlyMap<string, number> {
    return this.#bank;
  }

  async dispose(): Promise<void> {
    this.#check(!this.#running && !this.disposed && this.#rows.size === 0, 'dispose with work left');
    this.disposed = true;
  }

  /** A block holds the tokens, shifted so that none is zero, and a mark of the adapters. */
  #save(handle: number, fromToken: number, into: Float32Array): void {
    const row = this.#row(handle);
    const count = into.length / FLOATS_PER_TOKEN;
    this.#check(!this.#running && !row.broken, 'save during a run or of a broken row');
    this.#check(fromToken + count <= row.tokens.length, 'save of tokens that were not computed');
    row.tokens.slice(fromToken, fromToken + count).forEach((token, index) => {
      into.set([token + 1, row.mark ?? Number.NaN], index * FLOATS_PER_TOKEN);
    });
  }

  #restore(handle: number, blocks: readonly Float32Array[]): void {
    const row = this.#row(handle);
    this.#check(!this.#running && row.tokens.length === 0, 'restore during a run or into a row in use');
    for (const block of blocks) {
      for (let at = 0; at < block.length; at += FLOATS_PER_TOKEN) {
        const [token = 0, mark = 0] = block.subarray(at);
        this.#check(token > 0, 'restore of a wiped block');
        this.#check(row.restored === null || row.restored === mark, 'blocks of different adapters');
        row.restored = mark;
        row.tokens.push(token - 1);
        this.restoredTokens += 1;
      }
    }
    this.#check(row.tokens.length < row.maxTokens, 'restore beyond the reservation');
  }

  #append(item: RowWork): Float32Array | null {
    const row = this.#row(item.row);
    row.tokens.push(...item.tokens);
    if (!item.wantsLogits) return null;
    const signature = adapterSignature(item.adapters);
    const logits = fakeLogits(row.tokens, signature, this.options.vocabSize);
    if (this.options.breaksRow?.(row.tokens) === true) logits.fill(Number.NaN, 3, 4);
    return logits;
  }

  #checkStep(work: readonly RowWork[]): void {
    this.#check(work.length > 0, 'an empty step');
    this.#check(work.length <= this.options.maxRows, 'too many rows');
    this.#check(new Set(work.map(({ row }) => row)).size === work.length, 'a row twice in a step');
    const prefill = work.filter(({ past, tokens }) => past === 0 || tokens.length > 1);
    const read = prefill.reduce((sum, { tokens }) => sum + tokens.length, 0);
    this.#check(read <= this.options.prefillTokensPerStep, `prefill over budget: ${read}`);
    const bank = new Map<string, number>();
    for (const item of work) {
      const row = this.#row(item.row);
      this.#check(!row.broken, 'run of a row whose last run failed');
      this.#check(item.past === row.tokens.length, `past ${item.past}, but ${row.tokens.length} are cached`);
      this.#check(item.tokens.length > 0, 'a row without tokens');
      this.#check(item.past + item.tokens.length <= row.maxTokens, 'a row beyond its reservation');
      this.#check(
        item.tokens.every((id) => id >= 0 && id < this.options.vocabSize),
        'a token out of range',
      );
      const signature = adapterSignature(item.adapters);
      row.adapters ??= signature;
      row.mark ??= adapterMark(item.adapters);
      this.#check(row.restored === null || row.restored === row.mark, 'a prefix of other adapters');
      this.#check(row.adapters === signature, 'a sequence changed its adapters');
      for (const { adapter } of item.adapters) bank.set(adapter.digest, adapter.pages.length);
    }
    const pages = [...bank.values()].reduce((sum, count) => sum + count, 0);
    this.#check(pages <= this.bankPages, `bank over-commit: ${pages}`);
    this.#bank = bank;
    this.#bankGeneration += 1;
  }

  #row(handle: number): Row {
    const row = this.#rows.get(handle);
    if (row === undefined) this.#misuse(`row ${handle} is not open`);
    return row;
  }

  #check(condition: boolean, message: string): void {
    if (!condition) this.#misuse(message);
  }

  #misuse(message: string): never {
    this.misuses.push(message);
    throw new Error(`Runner misused: ${message}`);
  }
}

/** A packed adapter whose pages follow from its digest. */
export function fakeAdapter(digest: string, pages = 1, bytes = 100): PackedAdapter {
  let h = 7;
  for (let i = 0; i < digest.length; i++) h = mix(h, digest.charCodeAt(i));
  const content = Array.from({ length: pages }, (_, page) => Float32Array.of(mix(h, page) >>> 8));
  return { digest, rank: 8 * pages, bytes, pages: content };
}

function fakeShape({ vocabSize, maxContext }: FakeRunnerOptions): ModelShape {
  return {
    family: 'llama',
    hiddenSize: 8,
    layers: 1,
    heads: 1,
    kvHeads: 1,
    headDim: 8,
    intermediateSize: 16,
    vocabSize,
    maxPositions: maxContext,
    rmsNormEps: 1e-5,
    ropeTheta: 10_000,
    ropeScaling: null,
    tiedEmbeddings: true,
    qkvBias: false,
    qkNorm: false,
  };
}
