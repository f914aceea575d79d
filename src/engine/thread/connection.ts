import { fromPublic, PatchbayError } from '../../kernel/errors.ts';
import { type Deferred, deferred } from '../deferred.ts';
import type { EngineInfo, SequenceEvent, SequenceRequest } from '../port.ts';
import { type Answer, type FromEngine, isFromEngine, type ThreadPort, type ToEngine } from './messages.ts';

export interface ThreadEngineOptions {
  /** How long beyond the grace a closing thread may take before it is terminated. */
  readonly closeMarginMs: number;
  /** Told of internal failures, for the log. */
  readonly report: (error: unknown) => void;
  /** Told when the thread has died without having been closed: every later call fails. */
  readonly onDeath: (error: PatchbayError) => void;
}

export const DEFAULT_THREAD_ENGINE_OPTIONS: ThreadEngineOptions = {
  closeMarginMs: 5_000,
  report: () => {},
  onDeath: () => {},
};

/** The thread behind a port. */
export interface EngineThread {
  readonly port: ThreadPort;
  /** Calls back when the thread has died, with the reason; also after {@link EngineThread.terminate}. */
  onDeath(listener: (cause: unknown) => void): void;
  terminate(): Promise<void>;
}

/** A submitted sequence as the client sees it. */
interface Stream {
  readonly request: SequenceRequest;
  readonly onEvent: (event: SequenceEvent) => void;
  accepted: boolean;
  /** Tokens received, for the usage figures should the thread die. */
  tokens: number;
  /** As its tokens told. */
  cachedPromptTokens: number;
}

/** The client's end of a thread: pairs answers with calls, hands events out, and knows when the thread is dead. */
export class Connection {
  /** Resolves when the engine is up; rejects if it cannot be started. */
  readonly ready: Promise<EngineInfo>;
  readonly #thread: EngineThread;
  readonly #options: ThreadEngineOptions;
  readonly #ready: Deferred<EngineInfo> = deferred();
  /** Bounded by the callers: one entry per promise that somebody awaits. */
  readonly #calls = new Map<number, { readonly answer: Deferred<Answer>; readonly stream: Stream | null }>();
  /** Bounded by the engine's own queue and rows: what is refused is removed. */
  readonly #streams = new Map<string, Stream>();
  #nextCall = 0;
  #dead: PatchbayError | null = null;
  #closed: Promise<void> | null = null;

  constructor(thread: EngineThread, options: ThreadEngineOptions) {
    this.#thread = thread;
    this.#options = options;
    this.ready = this.#ready.promise;
    thread.port.on('message', (message) => {
      if (isFromEngine(message)) this.#receive(message);
    });
    thread.onDeath((cause) => this.#die(cause));
  }

  post(message: ToEngine): void {
    if (this.#dead === null) this.#thread.port.postMessage(message);
  }

  /**
   * Asks and waits for the answer.
   *
   * @throws PatchbayError what the engine refused with; `ENGINE_FAILED` if the thread is dead or dies meanwhile
   */
  async call(message: (call: number) => ToEngine, stream: Stream | null = null): Promise<Answer> {
    if (this.#dead !== null) throw this.#dead;
    const call = this.#nextCall++;
    const answer = deferred<Answer>();
    this.#calls.set(call, { answer, stream });
    try {
      this.post(message(call));
      return await answer.promise;
    } finally {
      this.#calls.delete(call);
    }
  }

  async submit(request: SequenceRequest, onEvent: (event: SequenceEvent) => void): Promise<void> {
    if (this.#closed !== null) throw new PatchbayError('SHUTTING_DOWN', 'The engine is closing.');
    if (this.#streams.has(request.id)) {
      throw new PatchbayError('BAD_INPUT', 'A live sequence has this id.', { field: 'id' });
    }
    const stream: Stream = { request, onEvent, accepted: false, tokens: 0, cachedPromptTokens: 0 };
    this.#streams.set(request.id, stream);
    try {
      await this.call((call) => ({ kind: 'submit', call, request }), stream);
    } catch (error) {
      if (this.#streams.get(request.id) === stream) this.#streams.delete(request.id);
      throw error;
    }
  }

  /** Closes the engine and ends its thread; terminates it when it does not answer in time. */
  close(graceMs: number): Promise<void> {
    this.#closed ??= this.#close(graceMs);
    return this.#closed;
  }

  async #close(graceMs: number): Promise<void> {
    const late = deferred<void>();
    const timer = setTimeout(() => late.resolve(), graceMs + this.#options.closeMarginMs);
    try {
      await Promise.race([this.call((call) => ({ kind: 'close', call, graceMs })), late.promise]);
    } catch (error) {
      // The thread is dead already, or its engine could not close in order: either way it is ended below.
      this.#options.report(error);
    } finally {
      clearTimeout(timer);
    }
    await this.#thread.terminate();
    this.#die(new Error('the engine was closed'));
  }

  #receive(message: FromEngine): void {
    if (this.#dead !== null) return;
    switch (message.kind) {
      case 'ready':
        this.#ready.resolve(message.info);
        return;
      case 'failed':
        this.#ready.reject(fromPublic(message.error));
        return;
      case 'answer': {
        const call = this.#calls.get(message.call);
        if (call === undefined) return;
        // Noted here and not where the call is awaited: the thread may die between the two.
        if (message.answer.kind === 'accepted' && call.stream !== null) call.stream.accepted = true;
        if (message.answer.kind === 'refused') call.answer.reject(fromPublic(message.answer.error));
        else call.answer.resolve(message.answer);
        return;
      }
      case 'events':
        for (const { id, event } of message.events) this.#deliver(id, event);
    }
  }

  #deliver(id: string, event: SequenceEvent): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    // An event proves the acceptance, should its answer still be on the way.
    stream.accepted = true;
    if (event.kind === 'end') this.#streams.delete(id);
    else {
      stream.tokens += event.tokens.length;
      stream.cachedPromptTokens = event.cachedPromptTokens;
    }
    try {
      stream.onEvent(event);
    } catch (error) {
      // Nobody listens any more, so nobody needs the rest.
      this.#options.report(error);
      this.post({ kind: 'cancel', id });
    }
  }

  /** Ends everything that depended on the thread; only the first cause counts. */
  #die(cause: unknown): void {
    if (this.#dead !== null) return;
    const error = new PatchbayError('ENGINE_FAILED', 'The thread of the engine has ended.', { cause });
    this.#dead = error;
    if (this.#closed === null) {
      this.#options.report(cause);
      this.#options.onDeath(error);
    }
    this.#ready.reject(error);
    for (const { answer } of this.#calls.values()) answer.reject(error);
    for (const [id, stream] of [...this.#streams]) {
      this.#streams.delete(id);
      if (stream.accepted) this.#end(stream, error);
    }
  }

  /** The times of a sequence died with the thread that measured them; its tokens were counted here. */
  #end({ request, onEvent, tokens, cachedPromptTokens }: Stream, error: PatchbayError): void {
    const usage = {
      promptTokens: request.promptIds.length,
      completionTokens: tokens,
      cachedPromptTokens,
      queueMs: 0,
      prefillMs: 0,
      decodeMs: 0,
      computeMs: 0,
      bytesLoaded: 0,
      executed: null,
    };
    try {
      onEvent({ kind: 'end', reason: 'error', text: '', usage, error: error.toPublic() });
    } catch (thrown) {
      this.#options.report(thrown);
    }
  }
}
