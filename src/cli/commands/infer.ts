import { randomUUID } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { CLOSE_CODES } from '../../http/close-codes.ts';
import type { ErrorCode } from '../../kernel/codes.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { type Connection, resolveConnection, socketUrl } from '../connection.ts';
import { EXIT } from '../exit-codes.ts';
import { fromWireErrors, readResult, remoteError, unreachable } from '../graphql-client.ts';
import { type CliIo, interruptible, UsageError } from '../io.ts';

/** Flags of `patchbay infer`. */
interface InferFlags {
  readonly adapter: readonly string[];
  readonly plain: boolean;
  readonly prompt?: string;
  readonly message: readonly string[];
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly seed?: string;
  readonly stop: readonly string[];
  readonly ignoreEos: boolean;
  readonly priority: 'interactive' | 'standard' | 'batch';
  readonly idempotencyKey?: string;
  readonly receipt?: string;
  readonly disclosure?: string;
  readonly url?: string;
  readonly key?: string;
  readonly json: boolean;
}

/** What `patchbay infer` sends; a test checks it against the schema. */
export const SUBSCRIPTION = `subscription Infer($input: InferInput!, $disclosure: Boolean!) {
  infer(input: $input) {
    __typename
    ... on InferStarted { requestId replayed }
    ... on InferChunk { sequence text tokens { id logprob } }
    ... on InferFinished {
      requestId finishReason replayed outputComplete receipt
      usage { promptTokens completionTokens cachedPromptTokens }
      timing { queueMs prefillMs decodeMs }
      opening @include(if: $disclosure) { salt promptIds }
      error { code message fix }
    }
  }
}`;

const inferEvent = z.object({
  infer: z.discriminatedUnion('__typename', [
    z.looseObject({ __typename: z.literal('InferStarted'), requestId: z.string() }),
    z.looseObject({
      __typename: z.literal('InferChunk'),
      text: z.string(),
      tokens: z.array(z.looseObject({ id: z.number() })),
    }),
    z.looseObject({
      __typename: z.literal('InferFinished'),
      requestId: z.string(),
      finishReason: z.string(),
      outputComplete: z.boolean(),
      receipt: z.string().nullable(),
      opening: z.object({ salt: z.string(), promptIds: z.array(z.number()) }).nullish(),
      usage: z.looseObject({ promptTokens: z.number(), completionTokens: z.number() }),
      timing: z.looseObject({ prefillMs: z.number(), decodeMs: z.number() }).nullable(),
      error: z.object({ code: z.string(), message: z.string(), fix: z.string() }).nullable(),
    }),
  ]),
});
type InferEvent = z.infer<typeof inferEvent>['infer'];
type InferFinished = Extract<InferEvent, { __typename: 'InferFinished' }>;

/** Streams one inference to the terminal; Ctrl-C cancels it on the server too. */
export async function infer(io: CliIo, flags: InferFlags): Promise<number> {
  const input = await inferInput(io, flags);
  const connection = await resolveConnection(io.loadConfig().config, flags);
  return interruptible(io, async (signal) => {
    const { finished, tokens } = await stream(io, connection, input, flags, signal);
    if (signal.aborted) return EXIT.interrupted;
    if (finished === null) {
      throw new PatchbayError('INTERNAL', 'The stream ended without its final event.', {
        fix: 'Query the request by its id for its outcome.',
      });
    }
    if (!flags.json) io.out('\n');
    if (flags.receipt !== undefined) await keepReceipt(io, finished, flags.receipt);
    if (flags.disclosure !== undefined) await keepDisclosure(io, finished, tokens, flags);
    if (finished.error !== null) throw remoteError(finished.error);
    if (!finished.outputComplete) {
      io.err('This repeats an earlier request whose text is no longer remembered; its usage is right.\n');
    }
    if (!flags.json && io.live) io.err(`${summary(finished)}\n`);
    return EXIT.ok;
  });
}

async function keepReceipt(io: CliIo, { receipt }: InferFinished, path: string): Promise<void> {
  if (receipt === null) {
    io.err(
      'There is no receipt: proofs are off, or it was not signed in time. Ask for it later by `receipt`.\n',
    );
    return;
  }
  await writeFile(path, `${receipt}\n`);
}

/** Keeps what nobody stores, so that the request can be shown, and run again, later. */
async function keepDisclosure(
  io: CliIo,
  { requestId, opening }: InferFinished,
  output: readonly number[],
  flags: InferFlags & { readonly disclosure?: string },
): Promise<void> {
  const { disclosure: path, temperature, maxTokens, stop, ignoreEos } = flags;
  if (path === undefined) return;
  if (opening == null) {
    io.err('There is nothing to disclose: this repeats an earlier request, whose prompt is not stored.\n');
    return;
  }
  const document = {
    format: 'patchbay-disclosure/1',
    id: requestId,
    salt: opening.salt,
    prompt: opening.promptIds,
    output,
    sampling: { temperature, repetitionPenalty: 1 },
    stop: { maxTokens, strings: stop, tokenIds: [], ignoreEos },
  };
  await writeFile(path, `${JSON.stringify(document)}\n`);
}

async function stream(
  io: CliIo,
  connection: Connection,
  input: Readonly<Record<string, unknown>>,
  flags: InferFlags,
  signal: AbortSignal,
): Promise<{ readonly finished: InferFinished | null; readonly tokens: readonly number[] }> {
  const [{ createClient }, { WebSocket }] = await Promise.all([import('graphql-ws'), import('ws')]);
  const client = createClient({
    url: socketUrl(connection.url),
    webSocketImpl: WebSocket,
    connectionParams: { authorization: `Bearer ${connection.key}` },
    retryAttempts: 0,
  });
  const events = client.iterate({
    query: SUBSCRIPTION,
    variables: { input, disclosure: flags.disclosure !== undefined },
  });
  // Ending the iteration sends `complete`, upon which the server cancels the sequence.
  signal.addEventListener('abort', () => void events.return?.(), { once: true });
  let finished: InferFinished | null = null;
  const tokens: number[] = [];
  try {
    for await (const result of events) {
      const { infer: event } = readResult(result, inferEvent);
      show(io, event, flags.json);
      if (event.__typename === 'InferChunk') tokens.push(...event.tokens.map(({ id }) => id));
      if (event.__typename === 'InferFinished') finished = event;
    }
  } catch (error) {
    if (!signal.aborted) throw streamError(connection.url, error);
  } finally {
    await client.dispose();
  }
  return { finished, tokens };
}

function show(io: CliIo, event: InferEvent, json: boolean): void {
  if (json) io.out(`${JSON.stringify(event)}\n`);
  else if (event.__typename === 'InferChunk') io.out(event.text);
}

/** The server's own close codes, as the errors that they stand for. */
const SOCKET_CLOSES: ReadonlyMap<number, ErrorCode> = new Map<number, ErrorCode>([
  [CLOSE_CODES.GOING_AWAY.code, 'SHUTTING_DOWN'],
  [CLOSE_CODES.UNAUTHORIZED.code, 'UNAUTHENTICATED'],
  [4403, 'UNAUTHENTICATED'],
  [CLOSE_CODES.KEY_REVOKED.code, 'UNAUTHENTICATED'],
  [CLOSE_CODES.SLOW_CONSUMER.code, 'SLOW_CONSUMER'],
]);

/** A socket ends in an array of GraphQL errors, a close event, or a network error. */
function streamError(url: string, error: unknown): PatchbayError {
  if (error instanceof PatchbayError) return error;
  if (Array.isArray(error)) return fromWireErrors(error);
  const closed = z.object({ code: z.number(), reason: z.string() }).safeParse(error);
  if (!closed.success || closed.data.code === 1006) return unreachable(url, error);
  const { code, reason } = closed.data;
  const known = SOCKET_CLOSES.get(code);
  return new PatchbayError(known ?? 'INTERNAL', `The server closed the connection: ${reason || code}.`);
}

function summary({ usage, timing, finishReason }: InferFinished): string {
  const parts = [finishReason.toLowerCase(), `${usage.promptTokens} + ${usage.completionTokens} tokens`];
  if (timing !== null) {
    parts.push(`prompt in ${Math.round(timing.prefillMs)} ms`);
    if (timing.decodeMs > 0)
      parts.push(`${Math.round((usage.completionTokens / timing.decodeMs) * 1000)} tokens/s`);
  }
  return parts.join(' · ');
}

/** Turns flags and stdin into the `InferInput` of the schema. */
export async function inferInput(io: CliIo, flags: InferFlags): Promise<Record<string, unknown>> {
  if (flags.plain === flags.adapter.length > 0) {
    throw new UsageError(
      flags.plain ? '--plain and --adapter exclude each other.' : 'Neither an adapter nor --plain was given.',
      'Name one or more adapters (--adapter NAME[:WEIGHT]), or ask for the plain backbone (--plain).',
    );
  }
  if (flags.prompt !== undefined && flags.message.length > 0) {
    throw new UsageError('--prompt and --message exclude each other.', 'Give one of them.');
  }
  const adapters = flags.adapter.map(parseAdapter);
  return {
    idempotencyKey: flags.idempotencyKey ?? randomUUID(),
    ...(flags.plain ? { plainBackbone: true } : { adapters }),
    ...(await promptOf(io, flags)),
    maxTokens: flags.maxTokens,
    sampling: {
      temperature: flags.temperature,
      topP: flags.topP,
      ...(flags.seed === undefined ? {} : { seed: flags.seed }),
    },
    ...(flags.stop.length === 0 ? {} : { stop: flags.stop }),
    ...(flags.ignoreEos ? { ignoreEos: true } : {}),
    priority: flags.priority.toUpperCase(),
  };
}

async function promptOf(io: CliIo, flags: InferFlags): Promise<Record<string, unknown>> {
  if (flags.message.length > 0) return { messages: flags.message.map(parseMessage) };
  if (flags.prompt !== undefined && flags.prompt !== '-') return { prompt: flags.prompt };
  const piped = await io.readStdin();
  if (piped !== null && piped !== '') return { prompt: piped };
  throw new UsageError(
    'No prompt was given.',
    'Give --prompt TEXT or --message TEXT, or pipe a prompt into stdin.',
  );
}

/** `NAME`, `OWNER/NAME` or either with `:WEIGHT`. */
export function parseAdapter(text: string): { readonly adapter: string; readonly weight?: number } {
  const colon = text.lastIndexOf(':');
  if (colon === -1) return { adapter: text };
  const weight = Number(text.slice(colon + 1));
  if (colon === 0 || text.length === colon + 1 || !Number.isFinite(weight) || weight === 0) {
    throw new UsageError(
      `--adapter ${text} is not NAME or NAME:WEIGHT.`,
      'Use a finite weight other than 0, such as style:0.5.',
    );
  }
  return { adapter: text.slice(0, colon), weight };
}

/** `TEXT` of the user, or `system:TEXT`, `user:TEXT`, `assistant:TEXT`. */
export function parseMessage(text: string): { readonly role: string; readonly content: string } {
  const match = /^(system|user|assistant):\s?([\s\S]*)$/.exec(text);
  return match === null
    ? { role: 'USER', content: text }
    : { role: (match[1] ?? 'user').toUpperCase(), content: match[2] ?? '' };
}
