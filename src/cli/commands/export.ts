import { randomUUID } from 'node:crypto';
import { rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Database } from '../../db/client.ts';
import type { FormatName } from '../../exports/format.ts';
import type { Reach } from '../../exports/source.ts';
import type { SourceName } from '../../exports/sources.ts';
import type { ExportProgress, WrittenExport } from '../../exports/write.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { formatBytes, type ProgressStep } from '../../observability/progress.ts';
import { EXIT } from '../exit-codes.ts';
import { findTenant } from '../find-tenant.ts';
import { type CliIo, interruptible, progressFor, UsageError } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';

/** What the command line says. */
export interface ExportFlags {
  readonly source: SourceName;
  readonly format: FormatName;
  readonly out: string;
  readonly from: string;
  /** Left out: as late as possible. */
  readonly to?: string;
  /** Slug or id; left out: all tenants. */
  readonly tenant?: string;
  readonly json: boolean;
}

/** What was written. */
interface Report extends WrittenExport {
  readonly file: string;
  readonly from: Date;
  readonly until: Date;
  readonly tenantId: Uuid | null;
}

/** Writes an export of the installation's database, with or without a running server. */
export async function exportCommand(io: CliIo, flags: ExportFlags): Promise<number> {
  const range = {
    from: parseTime('--from', flags.from),
    to: flags.to === undefined ? null : parseTime('--to', flags.to),
  };
  const { config } = io.loadConfig();
  const file = await requireOutput(flags.out);
  const progress = progressFor(io, flags.json);
  return interruptible(io, async (signal) => {
    const step = progress.start(`Exporting ${flags.source}`);
    try {
      const report = await withOfflineDatabase(config.data, 'exports', (database) =>
        run(database, flags, range, file, { signal, step }),
      );
      step.done(`${report.rows} rows, ${formatBytes(Number(report.bytes))}`);
      io.out(flags.json ? `${JSON.stringify(plain(flags, report))}\n` : describe(report));
      return EXIT.ok;
    } catch (error) {
      step.fail();
      if (!signal.aborted) throw error;
      if (!flags.json) io.err('Interrupted; nothing was written.\n');
      return EXIT.interrupted;
    }
  });
}

async function run(
  database: Database,
  flags: ExportFlags,
  { from, to }: { readonly from: Date; readonly to: Date | null },
  file: string,
  { signal, step }: { readonly signal: AbortSignal; readonly step: ProgressStep },
): Promise<Report> {
  const { closeRange } = await import('../../exports/range.ts');
  const { SOURCES } = await import('../../exports/sources.ts');
  const { writeExport } = await import('../../exports/write.ts');
  const { recordSeen } = await import('../../tenant/audit.ts');
  const { SYSTEM_ACTOR } = await import('../../auth/principal.ts');
  const { PLATFORM_TENANT_ID } = await import('../../db/platform.ts');
  const { systemClock } = await import('../../kernel/clock.ts');
  const { source, format } = flags;
  const tenantId = flags.tenant === undefined ? null : await findTenant(database, flags.tenant);
  const range = await closeRange(database, { from, to: to ?? new Date(systemClock.nowMs()) });
  const reach: Reach = tenantId === null ? { kind: 'ALL' } : { kind: 'TENANT', tenantId };
  await recordSeen(
    { database, clock: systemClock },
    {
      tenantId: tenantId ?? PLATFORM_TENANT_ID,
      actor: SYSTEM_ACTOR,
      action: 'export.write',
      targetType: 'export',
      targetId: source,
      context: {},
    },
  );
  // Beside its place, so that it gets there in one step and nobody sees half of it.
  const part = join(dirname(file), `.${basename(file)}.${randomUUID().slice(0, 8)}.part`);
  const onProgress = ({ rows, expected }: ExportProgress): void =>
    step.update(Number(rows), Number(expected), 'items');
  const extract = { source: SOURCES[source], reach, ...range };
  const written = await writeExport(database, extract, { path: part, format, signal, onProgress });
  try {
    await rename(part, file);
  } catch (cause) {
    await rm(part, { force: true });
    throw new PatchbayError('BAD_INPUT', `${file} cannot be written.`, { field: 'out', cause });
  }
  return { ...written, ...range, file, tenantId };
}

/** Refuses at once what would otherwise fail after a long export. */
async function requireOutput(path: string): Promise<string> {
  const file = resolve(path);
  const folder = await stat(dirname(file)).catch(() => null);
  if (folder?.isDirectory() !== true) {
    throw new PatchbayError('FILE_MISSING', `There is no folder ${dirname(file)} for the output.`, {
      field: 'out',
      fix: 'Make the folder, or name another.',
    });
  }
  const found = await stat(file).catch(() => null);
  if (found !== null && !found.isFile()) {
    throw new PatchbayError('BAD_INPUT', `${file} is not a file.`, { field: 'out', fix: 'Name a file.' });
  }
  return file;
}

const TIME = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2}))?$/;

function parseTime(option: string, text: string): Date {
  const time = new Date(TIME.test(text) ? text : Number.NaN);
  // A day that a month does not have becomes another one, which nobody meant.
  const isDay = Number.isFinite(time.getTime()) && dayExists(text.slice(0, 10));
  if (isDay) return time;
  throw new UsageError(
    `${option}: ${JSON.stringify(text)} is not a time.`,
    'Give a day such as 2026-01-31, which begins at midnight UTC, or a time such as 2026-01-31T12:00:00Z.',
  );
}

function dayExists(day: string): boolean {
  const midnight = new Date(`${day}T00:00:00Z`);
  return Number.isFinite(midnight.getTime()) && midnight.toISOString().slice(0, 10) === day;
}

function plain({ source, format }: ExportFlags, report: Report): unknown {
  return { source, format, ...report, rows: String(report.rows), bytes: String(report.bytes) };
}

function describe({ file, rows, bytes, sha256, from, until }: Report): string {
  return [
    `file    ${file}`,
    `from    ${from.toISOString()}`,
    `until   ${until.toISOString()}`,
    `rows    ${rows}`,
    `bytes   ${bytes}`,
    `sha256  ${sha256}`,
    '',
  ].join('\n');
}
