import { appendFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Checkpoint, Resume } from '../../../src/exports/checkpoint.ts';
import { FORMAT_NAMES, type FormatName } from '../../../src/exports/format.ts';
import { SOURCES } from '../../../src/exports/sources.ts';
import { writeExport } from '../../../src/exports/write.ts';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { DAY, type ExportKit, of, openExportKit, type Written } from './kit.ts';

let kit: ExportKit;
let tenantId: Uuid;
beforeAll(async () => {
  kit = await openExportKit();
  tenantId = await kit.tenant();
  await kit.requests(tenantId, 24);
  for (const format of FORMAT_NAMES) whole.set(format, await kit.write(SOURCE, format, of(tenantId), STEPS));
});
afterAll(() => kit.dispose());

/** Charges: two rows to each id, so that a checkpoint may lie between them. */
const SOURCE = 'charges';
const STEPS = { pageRows: 5, groupRows: 5, checkpointRows: 10 };
let files = 0;
/** Written without a break. */
const whole = new Map<FormatName, Written>();
const contentOf = (format: FormatName): Buffer => whole.get(format)?.content ?? Buffer.alloc(0);

/** Writes until so many rows are done, and answers what another can go on from. */
async function interrupted(format: FormatName, rows: bigint, resume: Resume | null = null): Promise<Resume> {
  files += 1;
  const path = join(kit.folder, `part-${files}`);
  const stop = new AbortController();
  let last: Checkpoint | null = null;
  const writing = writeExport(
    kit.db.database,
    { source: SOURCES[SOURCE], reach: of(tenantId), ...DAY },
    {
      ...{ path, format, resume, ...STEPS, signal: stop.signal },
      onCheckpoint: (checkpoint) => {
        last = checkpoint;
      },
      onProgress: (progress) => {
        if (progress.rows >= rows) stop.abort(new Error('stopped'));
      },
    },
  );
  await expect(writing).rejects.toThrow('stopped');
  if (last === null) throw new Error('There is a checkpoint.');
  return { path, checkpoint: last };
}

/** Goes on, and answers the file and with how many rows the writing began. */
async function goOn(format: FormatName, resume: Resume, onPage?: (rows: bigint) => void) {
  const seen: bigint[] = [];
  const written = await kit.write(SOURCE, format, of(tenantId), {
    ...STEPS,
    resume,
    onPage: (rows) => {
      seen.push(rows);
      onPage?.(rows);
    },
  });
  return { written, began: seen[0] };
}

describe.each(FORMAT_NAMES)('%s', (format) => {
  test('is gone on with to the same bytes, also more than once', async () => {
    const first = await interrupted(format, 25n);
    expect(first.checkpoint.rows).toBe(20n);
    // More was written than is vouched for.
    expect(readFileSync(first.path).byteLength).toBeGreaterThan(Number(first.checkpoint.bytes));
    const once = await goOn(format, first);
    expect(once.began).toBe(20n);
    expect(once.written.content.equals(contentOf(format))).toBe(true);

    const second = await interrupted(format, 40n, first);
    expect(second.checkpoint.rows).toBe(40n);
    const twice = await goOn(format, second);
    expect(twice.began).toBe(40n);
    expect(twice.written).toMatchObject({ rows: 48n, sha256: whole.get(format)?.sha256 });
    expect(twice.written.content.equals(contentOf(format))).toBe(true);
  });
});

test('who goes on vouches for the same at once, in a file of their own', async () => {
  const first = await interrupted('csv', 25n);
  const second = await interrupted('csv', 20n, first);
  expect(second.checkpoint).toEqual(first.checkpoint);
  expect(second.path).not.toBe(first.path);
});

test('one that lost its claim and writes on touches nothing of the other’s file', async () => {
  const resume = await interrupted('jsonl', 25n);
  const { written, began } = await goOn('jsonl', resume, () =>
    appendFileSync(resume.path, '{"late": true}\n'),
  );
  expect(began).toBe(20n);
  expect(written.content.equals(contentOf('jsonl'))).toBe(true);
});

test.each<[string, (resume: Resume) => Resume]>([
  [
    'is gone',
    (resume) => {
      const path = join(kit.folder, 'nowhere');
      expect(existsSync(path)).toBe(false);
      return { ...resume, path };
    },
  ],
  [
    'is shorter',
    (resume) => {
      truncateSync(resume.path, Number(resume.checkpoint.bytes) - 1);
      return resume;
    },
  ],
  [
    'has another byte',
    (resume) => {
      const content = readFileSync(resume.path);
      content[10] = (content[10] ?? 0) ^ 1;
      writeFileSync(resume.path, content);
      return resume;
    },
  ],
  [
    'was written by a program that writes otherwise',
    (resume) => ({ ...resume, checkpoint: { ...resume.checkpoint, layout: '0'.repeat(64) } }),
  ],
])('a file is begun anew when what there is of it %s', async (_, change) => {
  const { written, began } = await goOn('parquet', change(await interrupted('parquet', 25n)));
  expect(began).toBe(0n);
  expect(written.content.equals(contentOf('parquet'))).toBe(true);
});
