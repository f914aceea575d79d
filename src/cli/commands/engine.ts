import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { PatchbayError } from '../../kernel/errors.ts';
import { EXIT } from '../exit-codes.ts';
import { type CliIo, interruptible, progressFor, reportTo, UsageError } from '../io.ts';
import { loadBenchEngine, loadRunBatch } from '../parts.ts';
import type { BenchEngineReport, Percentiles, RooflineReport, Workload } from '../ports.ts';

/** Flags of `patchbay run-batch`. */
interface RunBatchFlags {
  readonly backbone: string;
  readonly input: string;
  readonly output: string;
  readonly maxBatch: number;
  readonly bits: 32 | 8 | 4;
  readonly threads: number;
  readonly json: boolean;
}

/** Runs a file of requests through the engine, without server and database. */
export async function runBatchCommand(io: CliIo, flags: RunBatchFlags): Promise<number> {
  if ((await realPath(flags.input)) === (await realPath(flags.output))) {
    throw new UsageError('--input and --output name the same file.', 'Write to another file.');
  }
  const { config } = io.loadConfig();
  const runBatch = await loadRunBatch();
  return interruptible(io, async (signal) => {
    const report = await runBatch({
      backboneDir: flags.backbone,
      input: flags.input,
      output: flags.output,
      dataDir: config.data.dir,
      maxBatch: flags.maxBatch,
      bits: flags.bits,
      threads: flags.threads,
      progress: progressFor(io, flags.json),
      report: reportTo(io),
      signal,
    });
    if (flags.json) io.out(`${JSON.stringify(report)}\n`);
    else {
      const rate = report.elapsedMs > 0 ? Math.round((report.completionTokens / report.elapsedMs) * 1000) : 0;
      const cancelled = report.cancelled > 0 ? `${report.cancelled} cancelled, ` : '';
      io.err(
        `${report.succeeded} of ${report.lines} lines answered, ${cancelled}${report.failed} refused or failed; ` +
          `${report.completionTokens} tokens, ${rate} tokens/s. Written to ${flags.output}\n`,
      );
    }
    if (signal.aborted) return EXIT.interrupted;
    return report.failed > 0 ? EXIT.refused : EXIT.ok;
  });
}

/** Where a path leads once every link is followed; what does not exist yet is judged by its folder. */
async function realPath(path: string): Promise<string> {
  const absolute = resolve(path);
  try {
    return await realpath(absolute);
  } catch {
    const folder = dirname(absolute);
    return folder === absolute ? absolute : join(await realPath(folder), basename(absolute));
  }
}

/** Flags of `patchbay bench engine`. */
interface BenchEngineFlags {
  readonly backbone: string;
  readonly workload: Workload;
  readonly streams: number;
  readonly requests: number;
  readonly prompt: number;
  readonly new: number;
  readonly rank: number;
  readonly ranks?: readonly number[];
  readonly bits: 32 | 8 | 4;
  readonly threads: number;
  readonly seed: number;
  readonly json: boolean;
}

/** Measures the engine under a made load. */
export async function benchEngineCommand(io: CliIo, flags: BenchEngineFlags): Promise<number> {
  if (flags.requests < flags.streams) {
    throw new UsageError(
      `${flags.requests} requests cannot keep ${flags.streams} streams busy.`,
      'Give --requests of at least --streams.',
    );
  }
  const { config } = io.loadConfig();
  const benchEngine = await loadBenchEngine();
  return interruptible(io, async (signal) => {
    const report = await benchEngine({
      backbone: flags.backbone,
      workload: flags.workload,
      streams: flags.streams,
      requests: flags.requests,
      promptTokens: flags.prompt,
      newTokens: flags.new,
      ranks: flags.ranks ?? [flags.rank],
      bits: flags.bits,
      threads: flags.threads,
      seed: flags.seed,
      dataDir: config.data.dir,
      progress: progressFor(io, flags.json),
      report: reportTo(io),
      signal,
    });
    if (signal.aborted) return EXIT.interrupted;
    if (report.outputTokens === 0) throw new PatchbayError('ENGINE_FAILED', 'The bench produced no tokens.');
    io.out(flags.json ? `${JSON.stringify(report)}\n` : benchText(report));
    return EXIT.ok;
  });
}

function benchText(report: BenchEngineReport): string {
  const spread = ({ p50, p90, p99 }: Percentiles): string =>
    `p50 ${p50.toFixed(1)}  p90 ${p90.toFixed(1)}  p99 ${p99.toFixed(1)} ms`;
  const percent = (share: number): string => `${Math.round(share * 100)} %`;
  return (
    row('backbone', `${report.backbone}, ${report.workload} adapters of rank ${report.ranks.join(', ')}`) +
    row('load', `${report.requests} requests on ${report.streams} streams`) +
    row('output', `${report.outputTokens} tokens in ${(report.elapsedMs / 1000).toFixed(1)} s`) +
    row(
      'tokens/s',
      `${report.tokensPerSecond.toFixed(0)} end to end, ${report.decodeTokensPerSecond.toFixed(0)} in decode`,
    ) +
    row('time to first token', spread(report.ttftMs)) +
    row('between tokens', spread(report.interTokenMs)) +
    row('step', spread(report.stepMs)) +
    row(
      'step time goes to',
      `model ${percent(report.share.model)}, adapters ${percent(report.share.adapter)}, host ${percent(report.share.host)}`,
    ) +
    (report.roofline === null ? '' : rooflineText(report.roofline)) +
    (report.byteBound === null
      ? ''
      : row(
          'distinct ÷ identical',
          `${report.byteBound.toFixed(2)} by the bytes of weights and adapters alone`,
        ))
  );
}

function rooflineText(roofline: RooflineReport): string {
  const giga = (value: number): string => (value / 1e9).toFixed(0);
  const { floatFlopsPerSecond, weightFlopsPerSecond } = roofline;
  const weights =
    weightFlopsPerSecond === floatFlopsPerSecond
      ? ''
      : `, ${giga(weightFlopsPerSecond)} with weights of this width`;
  return (
    row(
      'decode ÷ roofline',
      `${Math.round(roofline.share * 100)} %: ${(roofline.bytes / 1e6).toFixed(0)} MB and ` +
        `${(roofline.flops / 1e9).toFixed(2)} Gflop a step take ${roofline.leastMs.toFixed(1)} ms (${roofline.boundBy})`,
    ) +
    row(
      'machine',
      `${(roofline.readBytesPerSecond / 1e9).toFixed(1)} GB/s read, ${giga(floatFlopsPerSecond)} Gflop/s in floats${weights}`,
    )
  );
}

function row(label: string, value: string): string {
  return `${label.padEnd(22)}${value}\n`;
}
