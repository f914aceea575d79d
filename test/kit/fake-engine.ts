import { createInlineEngine, type InlineEngineDeps } from '../../src/engine/loop.ts';
import type { EngineOptions } from '../../src/engine/options.ts';
import type { Engine, SequenceEvent, SequenceRequest } from '../../src/engine/port.ts';
import type { AdapterLoader, PackedAdapter, StreamDecoder } from '../../src/engine/runner.ts';
import { PatchbayError } from '../../src/kernel/errors.ts';
import { FakeRunner, type FakeRunnerOptions, fakeAdapter, ManualClock } from './fake-runner.ts';

/** What the fake store holds, by the adapter's name. */
export interface FakeAdapterSpec {
  readonly pages?: number;
  readonly bytes?: number;
  readonly fails?: boolean;
  /** How many turns of the event loop the load takes. */
  readonly turns?: number;
}

/** Loads adapters by digest from a table; those that are not in it are small and load at once. */
export class FakeLoader implements AdapterLoader {
  readonly loads: string[] = [];
  readonly #specs: Readonly<Record<string, FakeAdapterSpec>>;
  closed = false;

  constructor(specs: Readonly<Record<string, FakeAdapterSpec>> = {}) {
    this.#specs = specs;
  }

  async load(digest: string): Promise<PackedAdapter> {
    this.loads.push(digest);
    const { pages, bytes, fails, turns = 0 } = this.#specs[digest] ?? {};
    for (let i = 0; i < turns; i++) await nextTurn();
    if (fails === true) throw new PatchbayError('ADAPTER_LOAD_FAILED', `There is no ${digest}.`);
    return fakeAdapter(digest, pages, bytes);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

/** One turn of the event loop: the engine's loop gets at most one step further. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** Token 1 is `a`, 2 is `b`, …; tokens from 27 on are special and have no text. */
export function tokenText(id: number): string {
  return id >= 1 && id <= 26 ? String.fromCharCode(96 + id) : '';
}

export function letterDecoder(): StreamDecoder {
  return { push: (ids) => ids.map(tokenText).join(''), end: () => '' };
}

export interface FakeEngine {
  readonly engine: Engine;
  readonly runner: FakeRunner;
  readonly loader: FakeLoader;
  readonly clock: ManualClock;
  /** What the engine reported to its log. */
  readonly reports: unknown[];
}

export interface FakeEngineOptions {
  readonly runner?: Partial<FakeRunnerOptions>;
  readonly adapters?: Readonly<Record<string, FakeAdapterSpec>>;
  readonly engine?: Partial<EngineOptions>;
  readonly deps?: Partial<InlineEngineDeps>;
}

/** An engine in line over a fake runner, loader, decoder and clock. */
export function fakeEngine(options: FakeEngineOptions = {}): FakeEngine {
  const clock = new ManualClock();
  const runner = new FakeRunner({
    clock,
    maxRows: options.engine?.maxBatch ?? 16,
    prefillTokensPerStep: options.engine?.prefillTokensPerStep ?? 256,
    ...options.runner,
  });
  const loader = new FakeLoader(options.adapters);
  const reports: unknown[] = [];
  const engine = createInlineEngine(options.engine ?? {}, {
    runner,
    loader,
    decoderFactory: letterDecoder,
    clock,
    backboneDigest: 'fake-backbone',
    eosTokenIds: [31],
    report: (error) => reports.push(error),
    ...options.deps,
  });
  return { engine, runner, loader, clock, reports };
}

let nextId = 0;

/** What a test may say about a request; the rest is greedy, without stop rules. */
export type RequestParts = Partial<Omit<SequenceRequest, 'sampling' | 'stop'>> & {
  readonly sampling?: Partial<SequenceRequest['sampling']>;
  readonly stop?: Partial<SequenceRequest['stop']>;
};

export function request({ sampling, stop, ...rest }: RequestParts = {}): SequenceRequest {
  return {
    id: `request-${nextId++}`,
    tenantId: 'tenant',
    promptIds: [1, 2, 3],
    adapters: [],
    priority: 'STANDARD',
    topLogprobs: 0,
    sampling: { temperature: 0, topP: 1, topK: 0, minP: 0, repetitionPenalty: 1, seed: 0, ...sampling },
    stop: { maxTokens: 4, strings: [], tokenIds: [], ignoreEos: true, ...stop },
    ...rest,
  };
}

type EndEvent = Extract<SequenceEvent, { kind: 'end' }>;

/** Everything that one submitted sequence reported. */
export class Recording {
  readonly events: SequenceEvent[] = [];
  readonly ended: Promise<EndEvent>;
  #onEnd: (event: EndEvent) => void = () => {};
  #waiters: { readonly tokens: number; readonly resolve: () => void }[] = [];

  constructor() {
    this.ended = new Promise((resolve) => {
      this.#onEnd = resolve;
    });
  }

  readonly listener = (event: SequenceEvent): void => {
    this.events.push(event);
    if (event.kind === 'end') this.#onEnd(event);
    const count = this.tokens.length;
    for (const { tokens, resolve } of this.#waiters) if (count >= tokens) resolve();
  };

  get tokens(): number[] {
    return this.events.flatMap((event) => (event.kind === 'tokens' ? event.tokens.map(({ id }) => id) : []));
  }

  get text(): string {
    return this.events.map((event) => event.text).join('');
  }

  get ends(): number {
    return this.events.filter((event) => event.kind === 'end').length;
  }

  /** Resolves when that many tokens have come. */
  reached(tokens: number): Promise<void> {
    if (this.tokens.length >= tokens) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ tokens, resolve }));
  }
}

/** Submits and records; rejects when the engine refuses. */
export async function submitted(engine: Engine, parts: SequenceRequest): Promise<Recording> {
  const recording = new Recording();
  await engine.submit(parts, recording.listener);
  return recording;
}
