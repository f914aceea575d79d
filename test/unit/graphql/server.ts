import { Writable } from 'node:stream';
import { pino } from 'pino';
import { onTestFinished } from 'vitest';
import WebSocket from 'ws';
import type { GraphqlServices } from '../../../src/graphql/services.ts';
import {
  createHttpServer,
  type HttpServer,
  type HttpServerDependencies,
  type HttpServerOptions,
} from '../../../src/http/server.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { FakeInference, FakeKeys, fakeServices, TOKEN } from './fakes.ts';

/** A server on a free port with fake services, closed when the test ends. */
export interface TestServer {
  readonly server: HttpServer;
  readonly url: string;
  readonly graphqlUrl: string;
  readonly keys: FakeKeys;
  readonly inference: FakeInference;
  /** Log lines so far, parsed. */
  readonly logs: Record<string, unknown>[];
  revoke(keyId: string): void;
  /** Says that notifications of revoked keys may have been missed. */
  missRevocations(): void;
  query(body: unknown, headers?: Record<string, string>): Promise<Answer>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: {
    readonly data?: Record<string, unknown> | null;
    readonly errors?: readonly {
      readonly message: string;
      readonly path?: readonly unknown[];
      readonly extensions: Record<string, unknown>;
    }[];
  };
}

export async function startServer(
  setup: {
    readonly options?: Partial<HttpServerOptions>;
    readonly services?: Partial<GraphqlServices>;
    readonly deps?: Partial<HttpServerDependencies>;
  } = {},
): Promise<TestServer> {
  const inference = new FakeInference();
  const keys = new FakeKeys();
  const logs: Record<string, unknown>[] = [];
  let revoke: (keyId: string) => void = () => {};
  let miss: () => void = () => {};
  const sink = new Writable({
    write(line, _encoding, done) {
      logs.push(JSON.parse(String(line)));
      done();
    },
  });
  const server = await createHttpServer(
    { host: '127.0.0.1', port: 0, ...setup.options },
    {
      clock: systemClock,
      log: pino({ level: 'info' }, sink),
      services: { ...fakeServices(inference), ...setup.services },
      authenticate: keys.authenticate,
      onKeyRevoked: (listener) => {
        revoke = listener;
        return () => {};
      },
      onRevocationsMissed: (listener) => {
        miss = listener;
        return () => {};
      },
      ready: () => true,
      ...setup.deps,
    },
  );
  onTestFinished(() => server.close());
  const { url, graphqlUrl } = await server.listen();
  return {
    server,
    url,
    graphqlUrl,
    keys,
    inference,
    logs,
    revoke: (keyId) => revoke(keyId),
    missRevocations: () => miss(),
    async query(body, headers = {}) {
      const response = await fetch(graphqlUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: TOKEN, ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
      return { status: response.status, headers: response.headers, body: JSON.parse(await response.text()) };
    },
  };
}

/** A message of graphql-transport-ws. */
export interface Message {
  readonly type: string;
  readonly id?: string;
  readonly payload?: {
    readonly data?: Record<string, Record<string, unknown>> | null;
    readonly errors?: readonly { readonly extensions: Record<string, unknown> }[];
    readonly extensions?: Record<string, unknown>;
  } & {
    readonly [index: number]: { readonly message: string; readonly extensions: Record<string, unknown> };
  };
}

/** A websocket client that shows the protocol as it is on the wire. */
export class WireClient {
  readonly socket: WebSocket;
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
  readonly #messages: Message[] = [];
  #wake: () => void = () => {};

  constructor(graphqlUrl: string, options: { headers?: Record<string, string>; protocol?: string } = {}) {
    this.socket = new WebSocket(
      graphqlUrl.replace('http', 'ws'),
      options.protocol ?? 'graphql-transport-ws',
      options.headers === undefined ? {} : { headers: options.headers },
    );
    this.closed = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => resolve({ code, reason: String(reason) }));
    });
    this.socket.on('error', () => {});
    this.socket.on('message', (data) => {
      this.#messages.push(JSON.parse(String(data)));
      this.#wake();
    });
    onTestFinished(() => this.socket.terminate());
  }

  async open(): Promise<this> {
    if (this.socket.readyState !== WebSocket.OPEN) {
      await new Promise((resolve, reject) => {
        this.socket.once('open', resolve);
        this.socket.once('error', reject);
      });
    }
    return this;
  }

  /** Opens the connection and authenticates. */
  async init(authorization: string | undefined = TOKEN): Promise<this> {
    await this.open();
    this.send({ type: 'connection_init', payload: { authorization } });
    await this.take((message) => message.type === 'connection_ack');
    return this;
  }

  send(message: unknown): void {
    this.socket.send(JSON.stringify(message));
  }

  subscribe(id: string, query: string, variables: Record<string, unknown> = {}): void {
    this.send({ id, type: 'subscribe', payload: { query, variables } });
  }

  /** The first message that fits, taken from those that came and those that come. */
  async take(fits: (message: Message) => boolean): Promise<Message> {
    for (;;) {
      const index = this.#messages.findIndex(fits);
      const [found] = index === -1 ? [] : this.#messages.splice(index, 1);
      if (found) return found;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  next(id: string): Promise<Message> {
    return this.take((message) => message.id === id);
  }
}

/** An inference without frills. */
export const INFER = `subscription ($input: InferInput!) {
  infer(input: $input) {
    __typename
    ... on InferStarted { requestId replayed }
    ... on InferChunk { sequence text tokens { id logprob top { id } } }
    ... on InferFinished { requestId opening { salt promptIds } finishReason usage { promptTokens completionTokens } timing { bytesLoaded } }
  }
}`;

export function inferInput(over: Record<string, unknown> = {}): Record<string, unknown> {
  return { input: { idempotencyKey: 'k1', prompt: 'hi', plainBackbone: true, ...over } };
}
