import { Worker } from 'node:worker_threads';
import { PatchbayError } from '../../kernel/errors.ts';
import type {
  Engine,
  EngineInfo,
  EngineStatus,
  ProbeResult,
  ResidencyHour,
  SequenceEvent,
  SequenceRequest,
} from '../port.ts';
import {
  Connection,
  DEFAULT_THREAD_ENGINE_OPTIONS,
  type EngineThread,
  type ThreadEngineOptions,
} from './connection.ts';
import type { Answer } from './messages.ts';

/**
 * Starts a worker that serves an engine (see `serveEngine`) and connects to it.
 *
 * @param workerUrl the worker's entry file
 * @param workerData handed to the worker; must survive a structured clone
 * @throws PatchbayError what the worker reported as the reason that it could not start, or `ENGINE_FAILED`
 */
export async function createThreadEngine(
  workerUrl: URL,
  workerData: unknown,
  options: Partial<ThreadEngineOptions> = {},
): Promise<Engine> {
  const worker = new Worker(workerUrl, { workerData });
  const thread: EngineThread = {
    port: worker,
    onDeath: (listener) => {
      // An error overtakes the messages that the thread had posted before it; they are read by the time of the exit.
      // Answers and tokens that were sent therefore count, however the thread ends.
      let thrown: unknown;
      worker.once('error', (error) => {
        thrown = error;
      });
      worker.once('messageerror', listener);
      worker.once('exit', (code) =>
        listener(thrown ?? new Error(`the engine's thread exited with code ${code}`)),
      );
    },
    terminate: async () => {
      await worker.terminate();
    },
  };
  return connectEngine(thread, options);
}

/** Connects to an engine that is served at the other end of a thread's port; resolves when it is ready. */
export async function connectEngine(
  thread: EngineThread,
  options: Partial<ThreadEngineOptions> = {},
): Promise<Engine> {
  const connection = new Connection(thread, { ...DEFAULT_THREAD_ENGINE_OPTIONS, ...options });
  try {
    return new ThreadEngine(await connection.ready, connection);
  } catch (error) {
    await thread.terminate();
    throw error;
  }
}

class ThreadEngine implements Engine {
  readonly info: EngineInfo;
  readonly #connection: Connection;

  constructor(info: EngineInfo, connection: Connection) {
    this.info = info;
    this.#connection = connection;
  }

  async submit(request: SequenceRequest, onEvent: (event: SequenceEvent) => void): Promise<void> {
    await this.#connection.submit(request, onEvent);
  }

  cancel(id: string): void {
    this.#connection.post({ kind: 'cancel', id });
  }

  async probe(digest: string, promptIds: readonly number[]): Promise<ProbeResult> {
    const answer = await this.#connection.call((call) => ({ kind: 'probe', call, digest, promptIds }));
    if (answer.kind !== 'probed') throw unexpected(answer);
    return answer.result;
  }

  async status(): Promise<EngineStatus> {
    const answer = await this.#connection.call((call) => ({ kind: 'status', call }));
    if (answer.kind !== 'status') throw unexpected(answer);
    return answer.status;
  }

  async drainResidency(): Promise<readonly ResidencyHour[]> {
    const answer = await this.#connection.call((call) => ({ kind: 'residency', call }));
    if (answer.kind !== 'residency') throw unexpected(answer);
    return answer.hours;
  }

  async close({ graceMs }: { readonly graceMs: number }): Promise<void> {
    await this.#connection.close(graceMs);
  }
}

function unexpected(answer: Answer): PatchbayError {
  return new PatchbayError('ENGINE_FAILED', 'The engine gave an answer to another question.', {
    cause: answer.kind,
  });
}
