import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { useServer } from 'graphql-ws/use/ws';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { parseAdapter, parseMessage } from '../../../src/cli/commands/infer.ts';
import { readDisclosure } from '../../../src/verifier/input/disclosure.ts';
import { readFileBytes } from '../../../src/verifier/input/read.ts';
import { cli } from './fake-io.ts';

// graphql-ws loads the CommonJS build of graphql; importing it here would give a second copy, which graphql refuses.
const { buildSchema, GraphQLError }: typeof import('graphql') = createRequire(import.meta.url)('graphql');

// The part of schema/inference.graphql that the command uses, so that the test needs no server.
const schema = buildSchema(`
  type Query { ok: Boolean }
  scalar InferInput
  type Token { id: Int! logprob: Float! }
  type Usage { promptTokens: Int! completionTokens: Int! cachedPromptTokens: Int! }
  type Timing { queueMs: Float! prefillMs: Float! decodeMs: Float! }
  type Opening { salt: String! promptIds: [Int!]! }
  type Failure { code: String! message: String! fix: String! }
  type InferStarted { requestId: String! replayed: Boolean! }
  type InferChunk { sequence: Int! text: String! tokens: [Token!]! }
  type InferFinished { requestId: String! finishReason: String! replayed: Boolean! outputComplete: Boolean! receipt: String opening: Opening usage: Usage! timing: Timing error: Failure }
  union InferEvent = InferStarted | InferChunk | InferFinished
  type Subscription { infer(input: InferInput!): InferEvent! }
`);
const REQUEST = '019ad000-0000-7000-8000-000000000000';
const USAGE = { promptTokens: 2, completionTokens: 3, cachedPromptTokens: 0 };
const STARTED = { __typename: 'InferStarted', requestId: REQUEST, replayed: false, adapters: [] };
const chunk = (sequence: number, text: string, ids: readonly number[] = []) => ({
  __typename: 'InferChunk',
  sequence,
  text,
  tokens: ids.map((id) => ({ id, logprob: 0 })),
});
const finished = (error: object | null = null) => ({
  __typename: 'InferFinished',
  requestId: REQUEST,
  finishReason: error ? 'ERROR' : 'STOP',
  replayed: false,
  outputComplete: true,
  receipt: error ? null : '{"format":"patchbay-receipt/1"}',
  opening: { salt: 'ab'.repeat(32), promptIds: [5, 6] },
  usage: USAGE,
  timing: null,
  error,
});

let server: Server;
let sockets: WebSocketServer;
let url = '';
let events: () => AsyncGenerator<object>;
let inputs: unknown[] = [];
let authorization: unknown;
let admit = true;

beforeEach(async () => {
  inputs = [];
  admit = true;
  server = createServer();
  sockets = new WebSocketServer({ server, path: '/graphql' });
  useServer(
    {
      schema,
      onConnect: (ctx) => {
        authorization = ctx.connectionParams?.authorization;
        return admit;
      },
      roots: {
        subscription: {
          async *infer({ input }: { readonly input: unknown }) {
            inputs.push(input);
            for await (const event of events()) yield { infer: event };
          },
        },
      },
    },
    sockets,
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  url = typeof address === 'object' && address !== null ? `http://127.0.0.1:${address.port}/graphql` : '';
});
afterEach(async () => {
  for (const socket of sockets.clients) socket.terminate();
  sockets.close();
  await new Promise((resolve) => server.close(resolve));
});

const infer = (...flags: string[]) => cli(['infer', '--url', url, '--key', 'pb_12345678', ...flags]);

test('the text on stdout is the text of all chunks', async () => {
  events = async function* () {
    yield STARTED;
    yield chunk(0, 'Hel');
    yield chunk(1, 'lo, ');
    yield chunk(2, 'wörld');
    yield finished();
  };
  const result = await infer('--adapter', 'mood', '--prompt', 'hi');
  expect(result).toEqual({ code: 0, out: 'Hello, wörld\n', err: '' });
  expect(authorization).toBe('Bearer pb_12345678');
  expect(inputs).toMatchObject([{ prompt: 'hi', adapters: [{ adapter: 'mood' }], maxTokens: 256 }]);
});

test('--json prints every event as a line', async () => {
  events = async function* () {
    yield STARTED;
    yield chunk(0, 'a');
    yield finished();
  };
  const { out } = await infer('--plain', '--prompt', 'hi', '--json');
  const lines = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines.map((line) => line.__typename)).toEqual(['InferStarted', 'InferChunk', 'InferFinished']);
  expect(inputs).toMatchObject([{ plainBackbone: true }]);
});

test('--receipt keeps the receipt, and says when there is none', async () => {
  const file = join(mkdtempSync(join(tmpdir(), 'patchbay-infer-')), 'receipt.json');
  events = async function* () {
    yield STARTED;
    yield finished();
  };
  expect((await infer('--plain', '--prompt', 'hi', '--receipt', file)).code).toBe(0);
  expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual({ format: 'patchbay-receipt/1' });
  events = async function* () {
    yield STARTED;
    yield { ...finished(), receipt: null };
  };
  const without = await infer('--plain', '--prompt', 'hi', '--receipt', file);
  expect(without.err).toContain('There is no receipt');
  rmSync(dirname(file), { recursive: true });
});

test('--disclosure keeps prompt and answer as tokens with what decided them, and nothing is asked for without it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'patchbay-infer-'));
  const file = join(folder, 'disclosure.json');
  events = async function* () {
    yield STARTED;
    yield chunk(0, 'a', [7, 8]);
    yield chunk(1, 'b', [9]);
    yield finished();
  };
  const flags = ['--plain', '--prompt', 'hi', '--max-tokens', '4', '--stop', '.', '--ignore-eos'];
  expect((await infer(...flags, '--disclosure', file)).code).toBe(0);
  const disclosure = readDisclosure(await readFileBytes(file));
  expect(disclosure).toEqual({
    format: 'patchbay-disclosure/1',
    id: REQUEST,
    salt: 'ab'.repeat(32),
    prompt: [5, 6],
    output: [7, 8, 9],
    sampling: { temperature: 0, repetitionPenalty: 1 },
    stop: { maxTokens: 4, strings: ['.'], tokenIds: [], ignoreEos: true },
  });
  const without = await infer(...flags, '--json');
  expect(without.out).toContain('"InferFinished"');
  expect(without.out).not.toContain('opening');

  const none = join(folder, 'none.json');
  events = async function* () {
    yield STARTED;
    yield { ...finished(), replayed: true, opening: null };
  };
  const repeated = await infer('--plain', '--prompt', 'hi', '--disclosure', none);
  expect([repeated.code, repeated.err]).toEqual([0, expect.stringContaining('There is nothing to disclose')]);
  expect(existsSync(none)).toBe(false);
  rmSync(folder, { recursive: true });
});

test('a refused request, a failure while it runs and a refused key have the exit codes of their errors', async () => {
  events = () => {
    throw new GraphQLError('Too full.', { extensions: { code: 'ENGINE_FULL', fix: 'Wait.' } });
  };
  const refused = await infer('--plain', '--prompt', 'hi');
  expect(refused.code).toBe(7);
  expect(refused.err).toContain('ENGINE_FULL: Too full.');
  events = async function* () {
    yield STARTED;
    yield finished({ code: 'ENGINE_FAILED', message: 'Broken.', fix: 'Retry.' });
  };
  const failed = await infer('--plain', '--prompt', 'hi');
  expect(failed.code).toBe(1);
  expect(failed.err).toContain('ENGINE_FAILED: Broken.\nFix: Retry.');
  admit = false;
  expect((await infer('--plain', '--prompt', 'hi')).code).toBe(5);
});

test('nobody listening, or a server that vanishes, is unreachable', async () => {
  expect(
    (await cli(['infer', '--plain', '--prompt', 'x', '--url', 'http://127.0.0.1:1', '--key', 'pb_12345678']))
      .code,
  ).toBe(4);
  events = async function* () {
    yield STARTED;
    for (const socket of sockets.clients) socket.terminate();
    await new Promise(() => {});
  };
  expect((await infer('--plain', '--prompt', 'hi')).code).toBe(4);
});

test('Ctrl-C ends the subscription on the server and exits with 130', async () => {
  let interrupt = (): void => {};
  let released = false;
  const cancelled = new Promise<void>((resolve) => {
    events = async function* () {
      try {
        yield STARTED;
        for (let n = 0; ; n++) {
          yield chunk(n, '.');
          if (n === 3) interrupt();
          await new Promise((wake) => setTimeout(wake, 5));
        }
      } finally {
        resolve();
      }
    };
  });
  const result = await cli(['infer', '--url', url, '--key', 'pb_12345678', '--plain', '--prompt', 'hi'], {
    onInterrupt: (handler) => {
      interrupt = handler;
      return () => {
        released = true;
      };
    },
  });
  await cancelled;
  expect(result.code).toBe(130);
  expect(released).toBe(true);
});

test('the prompt comes from the flag, from messages or from a pipe', async () => {
  events = async function* () {
    yield finished();
  };
  const base = ['infer', '--url', url, '--key', 'pb_12345678', '--plain'];
  await cli(base, { stdin: 'from a pipe\n' });
  await cli([...base, '--message', 'system: Be brief.', '--message', 'Hello: there']);
  expect(inputs).toMatchObject([
    { prompt: 'from a pipe\n' },
    {
      messages: [
        { role: 'SYSTEM', content: 'Be brief.' },
        { role: 'USER', content: 'Hello: there' },
      ],
    },
  ]);
});

test('adapters may carry an owner, a weight, or both', () => {
  expect(parseAdapter('mood')).toEqual({ adapter: 'mood' });
  expect(parseAdapter('acme/mood:-0.5')).toEqual({ adapter: 'acme/mood', weight: -0.5 });
  expect(() => parseAdapter('mood:0')).toThrow();
  expect(() => parseAdapter(':1')).toThrow();
  expect(parseMessage('assistant:ok')).toEqual({ role: 'ASSISTANT', content: 'ok' });
});
