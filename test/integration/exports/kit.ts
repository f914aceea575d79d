import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Checkpoint, Resume } from '../../../src/exports/checkpoint.ts';
import type { FormatName } from '../../../src/exports/format.ts';
import type { ExportDatabase } from '../../../src/exports/read.ts';
import type { Reach } from '../../../src/exports/source.ts';
import { SOURCES, type SourceName } from '../../../src/exports/sources.ts';
import { type WrittenExport, writeExport } from '../../../src/exports/write.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';

/** Requests of the kit end within this day, long ago, one a second from midnight on. */
export const DAY = { from: new Date('2026-01-10T00:00:00Z'), until: new Date('2026-01-11T00:00:00Z') };
/** How far the time of an id is from the end of its request: most requests are short. */
const ADMITTED_BEFORE = '30 seconds';

/** Steps in which a few rows are many. */
export const SMALL = { pageRows: 5, groupRows: 10, checkpointRows: 20 };

/** Rows of usage and charges over a test's database. */
export interface ExportKit {
  readonly db: TestDatabase;
  readonly folder: string;
  tenant(): Promise<Uuid>;
  /** Writes so many requests of the tenant, with a charge for each of two parts and a share for each odd one. */
  requests(tenantId: Uuid, count: number, options?: RequestOptions): Promise<void>;
  /** Exports to a file of its own. */
  write(source: SourceName, format: FormatName, reach: Reach, options?: WriteOptions): Promise<Written>;
  dispose(): Promise<void>;
}

interface RequestOptions {
  /** When the first one ends. */
  readonly from?: Date;
  readonly admittedBefore?: string;
}

interface WriteOptions {
  readonly from?: Date;
  readonly until?: Date;
  readonly pageRows?: number;
  readonly groupRows?: number;
  readonly checkpointRows?: number;
  readonly onCheckpoint?: (checkpoint: Checkpoint) => void;
  readonly resume?: Resume;
  /** Done before each transaction of the export, which are numbered from 1: a count, pages, a count. */
  readonly before?: (transaction: number) => Promise<void>;
  readonly onPage?: (rows: bigint) => void;
  readonly signal?: AbortSignal;
}

/** A file that was written. */
export interface Written extends WrittenExport {
  readonly path: string;
  readonly content: Buffer;
}

export const of = (tenantId: Uuid): Reach => ({ kind: 'TENANT', tenantId });
export const ALL: Reach = { kind: 'ALL' };

/** Amounts past 2^53, and odd microseconds: what a number or a `Date` would lose. */
const INSERT_REQUESTS = `
WITH request AS (
  SELECT i, $2::timestamptz + (i - 1) * interval '1 second' + interval '123457 microseconds' AS ended_at,
         9007199254740993 + i AS amount
  FROM generate_series(1, $3::integer) i
), identified AS (
  SELECT *, (left(patchbay.uuidv7_floor(ended_at - $4::interval)::text, 14) || '7000-8000-'
             || lpad(to_hex(i), 4, '0') || substr(md5($1::uuid::text), 1, 8))::uuid AS id
  FROM request
), recorded AS (
  INSERT INTO usage_record (
    id, tenant_id, key_id, instance_id, backbone_digest, prompt_tokens, cached_prompt_tokens, completion_tokens,
    priority_class, queue_us, prefill_us, decode_us, compute_us, bytes_loaded, finish_reason, error_code, admitted_at,
    first_token_at, ended_at, settled_by, hold_id, prompt_commitment, output_commitment, amount_nano, currency)
  SELECT id, $1::uuid, $5::uuid, $5::uuid, sha256('b'), 10 + i % 7, i % 3, i % 11, (ARRAY['INTERACTIVE', 'STANDARD', 'BATCH'])[1 + i % 3],
         i, i * 2, i * 3, i * 4, 5000000000 + i, CASE WHEN i % 10 = 0 THEN 'error' ELSE 'stop' END,
         CASE WHEN i % 10 = 0 THEN 'ENGINE_FAILED' END, ended_at - $4::interval,
         CASE WHEN i % 11 > 0 THEN ended_at - interval '1 second' END, ended_at, 'engine', $5::uuid, sha256('p'), sha256('o'),
         amount, 'USD'
  FROM identified
), shared AS (
  INSERT INTO usage_share (
    request_id, adapter_version_id, adapter_id, adapter_digest, owner_tenant_id, tenant_id, weight, share_numerator,
    share_denominator, backbone_digest, priority_class, prompt_tokens, cached_prompt_tokens, completion_tokens, ended_at)
  SELECT id, $5::uuid, $5::uuid, sha256('a'), $5::uuid, $1::uuid, 0.7, 1, 1, sha256('b'), 'STANDARD', 1, 0, 1, ended_at
  FROM identified WHERE i % 2 = 1
)
INSERT INTO usage_charge (
  request_id, part, tenant_id, key_id, backbone_digest, priority_class, share_numerator, share_denominator, price_version,
  currency, input_tokens, cached_tokens, output_tokens, input_nano, cached_nano, output_nano, rank_nano, royalty_nano,
  fee_nano, total_nano, ended_at)
SELECT id, part, $1::uuid, $5::uuid, sha256('b'), 'STANDARD', 1, 2, $5::uuid, 'USD', 10, 0, 1, amount - part, 0, part, 0, 0, 0, amount,
       ended_at
FROM identified CROSS JOIN generate_series(0, 1) part`;

export async function openExportKit(): Promise<ExportKit> {
  const db = await createTestDatabase();
  const folder = mkdtempSync(join(tmpdir(), 'patchbay-exports-'));
  return {
    db,
    folder,

    async tenant() {
      const id = newId(systemClock);
      await db.admin('INSERT INTO tenant (id, name, slug, created_at) VALUES ($1, $2, $3, now())', [
        id,
        'A tenant',
        `t-${id}`,
      ]);
      return id;
    },

    async requests(tenantId, count, { from = DAY.from, admittedBefore = ADMITTED_BEFORE } = {}) {
      await db.admin(INSERT_REQUESTS, [tenantId, from, count, admittedBefore, randomUUID()]);
    },

    async write(source, format, reach, options = {}) {
      const path = join(folder, `${randomUUID()}.${format}`);
      const { from = DAY.from, until = DAY.until, before, onPage, signal, ...more } = options;
      let transactions = 0;
      const database: ExportDatabase = {
        async withTenantPg(tenantId, work) {
          transactions += 1;
          await before?.(transactions);
          return db.database.withTenantPg(tenantId, work);
        },
        withSystemPg: (work) => db.database.withSystemPg(work),
      };
      const written = await writeExport(
        database,
        { source: SOURCES[source], reach, from, until },
        {
          path,
          format,
          signal: signal ?? new AbortController().signal,
          ...more,
          ...(onPage === undefined ? {} : { onProgress: ({ rows }) => onPage(rows) }),
        },
      );
      return { ...written, path, content: readFileSync(path) };
    },

    async dispose() {
      rmSync(folder, { recursive: true, force: true });
      await db.dispose();
    },
  };
}

export const sha256 = (content: Uint8Array): string => createHash('sha256').update(content).digest('hex');

/** The objects of a JSONL file. */
export function parseLines(content: Buffer): Record<string, unknown>[] {
  return content
    .toString('utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}
