import type { IncomingMessage } from 'node:http';
import type { WebSocket as ProtocolSocket } from 'graphql-ws';
import type { WebSocket } from 'ws';
import type { Principal } from '../auth/principal.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Logger } from '../observability/logger.ts';
import { CLOSE_CODES, type CloseCode } from './close-codes.ts';
import type { Session } from './sessions.ts';
import { SocketGoneError, SocketWriter } from './socket-writer.ts';

/** The bounds of {@link WebsocketLimits} that concern one connection. */
interface ConnectionLimits {
  readonly operationsPerSocketMax: number;
  readonly bufferedBytesMax: number;
  readonly drainMsMax: number;
  readonly idleMsMax: number;
  readonly closeMsMax: number;
}

/** Messages beside those of operations that may wait for the socket: acknowledgements, pongs, errors. */
const SPARE_MESSAGES = 64;

/** Tells the protocol that the socket is gone; resolves when its operations have been ended. */
type ProtocolClosed = (code: number, reason: string) => Promise<void>;

/** One websocket: its principal, its outgoing side, its life. */
export class Connection implements Session {
  readonly request: IncomingMessage;
  /** Resolves when the socket is closed for good. */
  readonly closed: Promise<void>;
  principal: Principal | undefined;
  /** The credential that the principal came with, to be checked again. */
  authorization: string | undefined;
  readonly #socket: WebSocket;
  readonly #writer: SocketWriter;
  readonly #limits: ConnectionLimits;
  readonly #deps: { readonly clock: Clock; readonly log: Logger };
  /** What ends the operations that run, by their ids. */
  readonly #operations = new Map<string, AbortController>();
  #onProtocolClosed: ProtocolClosed = async () => {};
  #onGone: () => void = () => {};
  /** Messages being worked on; a subscription counts until it has ended. */
  #busy = 0;
  #closeWhenIdle: CloseCode | undefined;
  #ended = false;
  #alive = true;
  #lastActiveMs: number;

  constructor(
    socket: WebSocket,
    request: IncomingMessage,
    limits: ConnectionLimits,
    deps: { readonly clock: Clock; readonly log: Logger },
  ) {
    this.#socket = socket;
    this.request = request;
    this.#limits = limits;
    this.#deps = deps;
    this.#lastActiveMs = deps.clock.monotonicMs();
    this.#writer = new SocketWriter(
      socket,
      request.socket,
      { ...limits, pendingMessagesMax: limits.operationsPerSocketMax + SPARE_MESSAGES },
      () => this.close(CLOSE_CODES.SLOW_CONSUMER),
    );
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
  }

  /** Hands the socket to the protocol and keeps both informed of each other's end. */
  run(open: (port: ProtocolSocket) => ProtocolClosed, onGone: () => void): void {
    this.#onGone = onGone;
    this.#onProtocolClosed = open({
      protocol: this.#socket.protocol,
      send: async (data) => {
        await this.#writer.write(data);
        this.#alive = true;
      },
      close: (code, reason) => this.close({ code: code ?? 1000, reason: reason ?? '' }),
      onMessage: (handle) => {
        this.#socket.on('message', (data) => void this.#receive(handle, String(data)));
      },
    });
    this.#socket.on('pong', () => {
      this.#alive = true;
    });
    this.#socket.on('ping', () => {
      if (this.#writer.isOverfull()) this.close(CLOSE_CODES.SLOW_CONSUMER);
    });
    this.#socket.on('error', (error) => this.#deps.log.debug({ err: error }, 'A websocket failed'));
    this.#socket.once('close', (code, reason) => this.#end(code, String(reason)));
  }

  /** Binds the connection to who authenticated on it. */
  admit(principal: Principal, authorization: string | undefined): void {
    this.principal = principal;
    this.authorization = authorization;
  }

  revoke(): void {
    this.close(CLOSE_CODES.KEY_REVOKED);
  }

  /** Notes that an operation begins; the controller fires when the client ends it or the connection ends. */
  begin(id: string): AbortController {
    const operation = new AbortController();
    if (this.#ended) operation.abort();
    else this.#operations.set(id, operation);
    return operation;
  }

  /** Notes that an operation is over. Its id may stand for another by now. */
  finish(id: string, operation: AbortController): void {
    if (this.#operations.get(id) === operation) this.#operations.delete(id);
  }

  /** Ends an operation because the client asks for no more of it. */
  cancel(id: string): void {
    this.#operations.get(id)?.abort();
    this.#operations.delete(id);
  }

  /** Notes that the client did something. */
  touch(): void {
    this.#lastActiveMs = this.#deps.clock.monotonicMs();
  }

  /** Pings the peer; ends a connection whose peer is gone or has had nothing to do for long. */
  beat(): void {
    if (!this.#alive) {
      this.#end(1006, 'No pong');
      this.#socket.terminate();
      return;
    }
    const idleMs = this.#deps.clock.monotonicMs() - this.#lastActiveMs;
    if (this.#busy === 0 && idleMs >= this.#limits.idleMsMax) {
      this.close(CLOSE_CODES.IDLE);
      return;
    }
    this.#alive = false;
    if (this.#socket.readyState === this.#socket.OPEN) this.#socket.ping();
  }

  /** Closes as soon as no message is being worked on. */
  closeWhenIdle(why: CloseCode): void {
    this.#closeWhenIdle = why;
    if (this.#busy === 0) this.close(why);
  }

  /**
   * Ends the connection. Its operations are ended now and not when the peer answers the closing handshake: a peer
   * that does not read would otherwise keep sequences running.
   */
  close(why: { readonly code: number; readonly reason: string }): void {
    if (this.#ended) return;
    this.#end(why.code, why.reason);
    this.#socket.close(why.code, why.reason);
    const cut = setTimeout(() => this.#socket.terminate(), this.#limits.closeMsMax);
    void this.closed.then(() => clearTimeout(cut));
  }

  #end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#writer.end();
    this.#onGone();
    for (const operation of this.#operations.values()) operation.abort();
    this.#operations.clear();
    this.#onProtocolClosed(code, reason).catch((error: unknown) => {
      this.#deps.log.error({ err: error }, 'Ending the operations of a websocket failed');
    });
  }

  async #receive(handle: (data: string) => Promise<void>, data: string): Promise<void> {
    if (this.#ended) return;
    this.#busy += 1;
    this.#alive = true;
    try {
      await handle(data);
    } catch (error) {
      if (!(error instanceof SocketGoneError)) {
        this.#deps.log.error({ err: error }, 'Handling a websocket message failed');
        this.close(CLOSE_CODES.INTERNAL);
      }
    } finally {
      this.#busy -= 1;
      this.touch();
      if (this.#busy === 0 && this.#closeWhenIdle) this.close(this.#closeWhenIdle);
    }
  }
}
