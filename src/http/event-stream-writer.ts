import type { ServerResponse } from 'node:http';
import { SocketGoneError } from './socket-writer.ts';

/** Writes server-sent events to one response, with the same contract as `SocketWriter`: one message at a time. */
export class EventStreamWriter {
  readonly #response: ServerResponse;
  readonly #limits: { readonly drainMsMax: number };
  readonly #heartbeat: NodeJS.Timeout;
  #onGone: () => void = () => {};
  /** Rejects the write that waits; a response that is destroyed does not always call back. */
  #abandon: () => void = () => {};
  #gone = false;

  constructor(
    response: ServerResponse,
    limits: { readonly drainMsMax: number; readonly pingIntervalMs: number },
    headers: Readonly<Record<string, string>>,
  ) {
    this.#response = response;
    this.#limits = limits;
    response.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
    response.flushHeaders();
    response.once('close', () => this.#leave());
    this.#heartbeat = setInterval(() => {
      // A comment behind unsent data would only add to it.
      if (response.writableLength === 0) response.write(':\n\n');
    }, limits.pingIntervalMs);
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** Called once when the peer has left or was cut. */
  onGone(listener: () => void): void {
    this.#onGone = listener;
    if (this.#gone) listener();
  }

  /** Resolves when the event was handed to the operating system; rejects when it was not. */
  async event(name: string, data?: object): Promise<void> {
    if (this.#gone) throw new SocketGoneError();
    const lines = `event: ${name}\ndata: ${data === undefined ? '' : JSON.stringify(data)}\n\n`;
    const slow = setTimeout(() => this.cut(), this.#limits.drainMsMax);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#abandon = () => reject(new SocketGoneError());
        this.#response.write(lines, (error) => (error ? reject(new SocketGoneError()) : resolve()));
      });
    } finally {
      clearTimeout(slow);
    }
  }

  /** Ends the response as HTTP does, so that the client knows that nothing is missing. */
  finish(): void {
    clearInterval(this.#heartbeat);
    this.#response.end();
  }

  /** Ends the connection without the closing chunk: the client sees that the answer is incomplete. */
  cut(): void {
    this.#leave();
    this.#response.destroy();
  }

  #leave(): void {
    clearInterval(this.#heartbeat);
    if (this.#gone) return;
    this.#gone = true;
    this.#abandon();
    this.#onGone();
  }
}
