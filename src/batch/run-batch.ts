import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { readAdapterFolder } from '../adapter/folder.ts';
import { DEFAULT_ADAPTER_LIMITS } from '../adapter/limits.ts';
import type { AdapterContext } from '../adapter/read.ts';
import type { ImportedBackbone } from '../backbone/import.ts';
import { importOnce } from '../backbone/imported.ts';
import { type BackboneText, openText } from '../backbone/text/open.ts';
import { byteProgress, type RunBatch, type RunBatchOptions, type RunBatchReport } from '../cli/ports.ts';
import { createInlineEngine } from '../engine/loop.ts';
import type { Engine, GeneratedToken, SequenceEvent } from '../engine/port.ts';
import { packAdapter } from '../engine/runner/pack.ts';
import type { AdapterLoader } from '../engine/runner.ts';
import { systemClock } from '../kernel/clock.ts';
import { fromPublic, PatchbayError, toPatchbayError } from '../kernel/errors.ts';
import { newId } from '../kernel/ids.ts';
import { withProgress } from '../observability/progress.ts';
import { PAGE_RANK } from '../serving/layout.ts';
import { openRunner } from '../serving/open-runner.ts';
import { type BatchLine, type ParsedLine, parseLine } from './line.ts';

const KV_BYTES = 2 * 2 ** 30;
const HOST_CACHE_BYTES = 2 * 2 ** 30;
const BANK_BYTES = 2 * 2 ** 30;
/** Lines that are read ahead of the oldest unfinished one, per row of the batch: the bound of the output buffer. */
const READ_AHEAD = 8;

/** What a line of the output holds. */
type OutputLine =
  | {
      readonly custom_id: string | null;
      readonly token_ids: readonly number[];
      readonly logprobs: readonly number[];
      readonly text: string;
      readonly finish_reason: string;
      readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number };
    }
  | {
      readonly custom_id: string | null;
      readonly error: { readonly code: string; readonly message: string };
    };

/**
 * Runs every line of a file through an engine of its own in mixed batches and writes the answers in input order. A
 * line that is refused or fails becomes an error in its place; the others do not notice. The output is not touched
 * before the input is open and the engine stands.
 *
 * Rejects with `FILE_MISSING` or `BAD_INPUT` (field `input` or `output`) for files that cannot be used.
 */
export const runBatch: RunBatch = async (options) => {
  const started = systemClock.monotonicMs();
  const input = await openInput(options.input);
  try {
    await requireOutputFolder(options.output);
    return { ...(await runInput(options, input)), elapsedMs: systemClock.monotonicMs() - started };
  } finally {
    await input.close();
  }
};

async function openInput(path: string): Promise<FileHandle> {
  const input = await open(path).catch((cause: unknown) => {
    if (isMissing(cause)) {
      throw new PatchbayError('FILE_MISSING', `There is no file ${path}.`, { field: 'input', cause });
    }
    throw new PatchbayError('BAD_INPUT', `${path} cannot be read.`, { field: 'input', cause });
  });
  if ((await input.stat()).isDirectory()) {
    await input.close();
    throw new PatchbayError('BAD_INPUT', `${path} is a folder.`, { field: 'input' });
  }
  return input;
}

async function openOutput(path: string): Promise<FileHandle> {
  return open(path, 'w').catch((cause: unknown) => {
    throw new PatchbayError('BAD_INPUT', `${path} cannot be written.`, { field: 'output', cause });
  });
}

/** Refuses at once what would otherwise fail after a long import. */
async function requireOutputFolder(path: string): Promise<void> {
  const folder = dirname(resolve(path));
  const found = await stat(folder).catch(() => null);
  if (found?.isDirectory() === true) return;
  throw new PatchbayError('FILE_MISSING', `There is no folder ${folder} for the output.`, {
    field: 'output',
    fix: 'Make the folder, or name another.',
  });
}

function isMissing(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && (cause.code === 'ENOENT' || cause.code === 'ENOTDIR');
}

type Totals = Omit<RunBatchReport, 'elapsedMs'>;

async function runInput(options: RunBatchOptions, input: FileHandle): Promise<Totals> {
  const backbone = await withProgress(options.progress, `Importing ${options.backboneDir}`, (step) =>
    importOnce({
      dir: options.backboneDir,
      root: join(options.dataDir, 'backbones'),
      bits: options.bits,
      onProgress: byteProgress(step),
    }),
  );
  const text = openText(backbone.dir, backbone.manifest);
  const context = {
    shape: backbone.manifest.shape,
    backboneDigest: backbone.manifest.digest,
    limits: DEFAULT_ADAPTER_LIMITS,
  };
  const folders = new AdapterFolders(dirname(resolve(options.input)), context);
  const engine = await openEngine(options, backbone, text, folders);
  try {
    return await runLines(options, input, engine, text, folders);
  } finally {
    await engine.close({ graceMs: 0 });
  }
}

async function openEngine(
  options: RunBatchOptions,
  { dir, manifest }: ImportedBackbone,
  text: BackboneText,
  loader: AdapterLoader,
): Promise<Engine> {
  const settings = {
    maxContext: null,
    kvBytes: KV_BYTES,
    bankBytes: BANK_BYTES,
    intraOpThreads: options.threads,
    executionProviders: ['cpu'],
  };
  const runner = await openRunner(dir, manifest, settings, { clock: systemClock });
  return createInlineEngine(
    { maxBatch: options.maxBatch, maxQueue: options.maxBatch * READ_AHEAD, hostCacheBytes: HOST_CACHE_BYTES },
    {
      runner,
      loader,
      decoderFactory: text.decoderFactory,
      clock: systemClock,
      backboneDigest: manifest.digest,
      eosTokenIds: manifest.eosTokenIds,
      report: options.report,
    },
  );
}

/** Finds adapters by folder; what a folder holds is read once per load and known by its digest. */
class AdapterFolders implements AdapterLoader {
  readonly #base: string;
  readonly #context: AdapterContext;
  readonly #digests = new Map<string, Promise<string>>();
  readonly #folders = new Map<string, string>();

  constructor(base: string, context: AdapterContext) {
    this.#base = base;
    this.#context = context;
  }

  /** The digest of the adapter in a folder; rejects with what is wrong with it. */
  digest(path: string): Promise<string> {
    const folder = resolve(this.#base, path);
    const known = this.#digests.get(folder);
    if (known !== undefined) return known;
    const reading = readAdapterFolder(folder, this.#context).then(({ digest }) => {
      this.#folders.set(digest, folder);
      return digest;
    });
    this.#digests.set(folder, reading);
    return reading;
  }

  async load(digest: string): ReturnType<AdapterLoader['load']> {
    const folder = this.#folders.get(digest);
    if (folder === undefined) throw new PatchbayError('ADAPTER_LOAD_FAILED', `No folder holds ${digest}.`);
    const weights = await readAdapterFolder(folder, this.#context);
    if (weights.digest !== digest) {
      throw new PatchbayError('ADAPTER_LOAD_FAILED', `${folder} changed while the batch ran.`);
    }
    return packAdapter(weights, this.#context.shape, PAGE_RANK);
  }

  async close(): Promise<void> {}
}

async function runLines(
  options: RunBatchOptions,
  input: FileHandle,
  engine: Engine,
  text: BackboneText,
  folders: AdapterFolders,
): Promise<Totals> {
  const totals = { lines: 0, succeeded: 0, cancelled: 0, failed: 0, promptTokens: 0, completionTokens: 0 };
  const output = await openOutput(options.output);
  const progress = options.progress.start('Running');
  const queue: Promise<OutputLine>[] = [];
  const running = new Set<string>();
  const cancelAll = (): void => {
    for (const id of running) engine.cancel(id);
  };
  options.signal.addEventListener('abort', cancelAll, { once: true });
  const writeOldest = async (): Promise<void> => {
    const oldest = queue.shift();
    if (oldest === undefined) return;
    const line = await oldest;
    await output.writeFile(`${JSON.stringify(line)}\n`);
    totals.lines += 1;
    if ('error' in line) totals.failed += 1;
    else {
      if (line.finish_reason === 'cancelled') totals.cancelled += 1;
      else totals.succeeded += 1;
      totals.promptTokens += line.usage.prompt_tokens;
      totals.completionTokens += line.usage.completion_tokens;
    }
    progress.update(totals.lines, totals.lines + queue.length, 'items');
  };
  try {
    const lines = createInterface({
      input: input.createReadStream(),
      crlfDelay: Number.POSITIVE_INFINITY,
    });
    for await (const line of lines) {
      if (line.trim() === '') continue;
      if (options.signal.aborted) break;
      if (queue.length >= options.maxBatch * READ_AHEAD) await writeOldest();
      queue.push(runLine(parseLine(line), { engine, text, folders, running, signal: options.signal }));
    }
    while (queue.length > 0) await writeOldest();
    progress.done(`${totals.lines} lines`);
  } finally {
    options.signal.removeEventListener('abort', cancelAll);
    await output.close();
  }
  return totals;
}

/** What every line runs with. */
interface LineTools {
  readonly engine: Engine;
  readonly text: BackboneText;
  readonly folders: AdapterFolders;
  /** Ids of the lines that the engine has. */
  readonly running: Set<string>;
  readonly signal: AbortSignal;
}

async function runLine({ customId, line }: ParsedLine, tools: LineTools): Promise<OutputLine> {
  try {
    if (line instanceof PatchbayError) throw line;
    return await generate(line, tools);
  } catch (error) {
    const { code, message } = toPatchbayError(error);
    return { custom_id: customId, error: { code, message } };
  }
}

async function generate(line: BatchLine, tools: LineTools): Promise<OutputLine> {
  const { engine, text, folders, running, signal } = tools;
  const adapters: { digest: string; weight: number }[] = [];
  for (const { path, weight } of line.adapters) adapters.push({ digest: await folders.digest(path), weight });
  // Ctrl-C cancels what the engine has; a line that only now gets there would run on.
  if (signal.aborted) {
    return {
      custom_id: line.custom_id,
      token_ids: [],
      logprobs: [],
      text: '',
      finish_reason: 'cancelled',
      usage: { prompt_tokens: 0, completion_tokens: 0 },
    };
  }
  const id = newId(systemClock);
  const tokens: GeneratedToken[] = [];
  let answer = '';
  running.add(id);
  const end = await new Promise<Extract<SequenceEvent, { kind: 'end' }>>((done, refused) => {
    const request = {
      id,
      tenantId: 'batch',
      promptIds: line.prompt_ids ?? text.encodePrompt(line.prompt ?? ''),
      adapters,
      sampling: {
        temperature: line.temperature,
        topP: line.top_p,
        topK: line.top_k,
        minP: line.min_p,
        repetitionPenalty: line.repetition_penalty,
        seed: line.seed,
      },
      stop: { maxTokens: line.max_tokens, strings: line.stop, tokenIds: [], ignoreEos: line.ignore_eos },
      priority: 'BATCH' as const,
      topLogprobs: 0,
    };
    const onEvent = (event: SequenceEvent): void => {
      answer += event.text;
      if (event.kind === 'end') done(event);
      else tokens.push(...event.tokens);
    };
    engine.submit(request, onEvent).catch(refused);
  }).finally(() => running.delete(id));
  if (end.error !== undefined) throw fromPublic(end.error);
  return {
    custom_id: line.custom_id,
    token_ids: tokens.map((token) => token.id),
    logprobs: tokens.map((token) => token.logprob),
    text: answer,
    finish_reason: end.reason,
    usage: { prompt_tokens: end.usage.promptTokens, completion_tokens: end.usage.completionTokens },
  };
}
