import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/** Bounds of one socket's outgoing side. */
interface SocketWriterLimits {
  /** Unsent bytes above which nothing more is written, so that streams are no longer pulled. */
  readonly bufferedBytesMax: number;
  /** How long unsent data may make no progress. */
  readonly drainMsMax: number;
  /** Messages that may wait for the socket at once; each running operation has at most one. */
  readonly pendingMessagesMax: number;
}

/** Thrown by a write whose message did not reach the socket. */
export class SocketGoneError extends Error {
  constructor() {
    super('The socket closed before the message was written.');
    this.name = 'SocketGoneError';
  }
}

/**
 * Writes messages to one websocket with backpressure. A write resolves when its bytes were handed to the operating
 * system, and rejects when they were not: callers meter what was delivered by it, so a write on a closing socket
 * must never look like a success.
 */
export class SocketWriter {
  readonly #socket: WebSocket;
  readonly #stream: Pick<Duplex, 'cork' | 'uncork'>;
  readonly #limits: SocketWriterLimits;
  readonly #onSlow: () => void;
  readonly #waiters: Array<() => void> = [];
  #pending = 0;
  #timer: NodeJS.Timeout | undefined;
  #ended = false;
  #corked = false;

  /** `stream` is what the websocket itself writes to. */
  constructor(
    socket: WebSocket,
    stream: Pick<Duplex, 'cork' | 'uncork'>,
    limits: SocketWriterLimits,
    onSlow: () => void,
  ) {
    this.#socket = socket;
    this.#stream = stream;
    this.#limits = limits;
    this.#onSlow = onSlow;
  }

  async write(data: string): Promise<void> {
    if (!this.#isOpen()) throw new SocketGoneError();
    if (this.#pending >= this.#limits.pendingMessagesMax) {
      this.#onSlow();
      throw new SocketGoneError();
    }
    this.#pending += 1;
    this.#watch();
    try {
      while (this.#isOpen() && this.#socket.bufferedAmount > this.#limits.bufferedBytesMax) {
        await new Promise<void>((resolve) => this.#waiters.push(resolve));
      }
      if (!this.#isOpen()) throw new SocketGoneError();
      this.#cork();
      await new Promise<void>((resolve, reject) => {
        this.#socket.send(data, (error) => (error ? reject(new SocketGoneError()) : resolve()));
      });
    } finally {
      this.#pending -= 1;
      this.#progressed();
    }
  }

  /** Whether the peer lets control frames pile up; `ws` answers pings by itself, without backpressure. */
  isOverfull(): boolean {
    return this.#socket.bufferedAmount > 2 * this.#limits.bufferedBytesMax;
  }

  /** Lets go of everything that waits; writes reject from now on. */
  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /** Messages of one turn of the event loop leave as one write: chunks of many streams come in the same turn. */
  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    this.#stream.cork();
    process.nextTick(() => {
      this.#corked = false;
      this.#stream.uncork();
    });
  }

  #isOpen(): boolean {
    return !this.#ended && this.#socket.readyState === this.#socket.OPEN;
  }

  #watch(): void {
    this.#timer ??= setTimeout(() => this.#onSlow(), this.#limits.drainMsMax);
  }

  /** Some bytes left, so the time starts again; a reader that is slow but reads is left alone. */
  #progressed(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#ended) return;
    if (this.#pending > 0) this.#watch();
    for (const wake of this.#waiters.splice(0)) wake();
  }
}
