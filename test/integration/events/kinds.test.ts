import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { EVENT_KINDS } from '../../../src/events/kinds.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.dispose());

/** Text that is like a kind, in single quotes, as SQL has it. */
const KIND = /'([a-z]+(?:_[a-z]+)*\.[a-z]+(?:_[a-z]+)*)'/g;
const WRITES = /emit_event|INTO (?:public\.)?outbox_event/;

/** A call that writes an event, with its first arguments. */
const CALLS = /(?:emit_event\(|INTO (?:public\.)?outbox_event)[\s\S]{0,200}/g;

/** What a source that writes events names: the quoted kinds of every piece of it that writes one. */
function kindsOf(source: string): readonly string[] {
  if (!WRITES.test(source)) return [];
  return [...source.matchAll(KIND)].flatMap(([, kind]) => (kind === undefined ? [] : [kind]));
}

test('every kind of event that the database or the program writes is one that can be asked for, and no other is', async () => {
  const functions = await db.admin<{ source: string }>(
    `SELECT pg_get_functiondef(p.oid) AS source FROM pg_proc p
     WHERE p.pronamespace = 'patchbay'::regnamespace AND p.prokind = 'f'`,
  );
  const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.ts') && !name.includes('generated'),
  );
  const sources = [
    ...functions.map(({ source }) => source),
    // Programs name other things in the same form, such as what is audited, so of them the calls alone are looked at.
    ...files.flatMap((name) => readFileSync(join('src', name), 'utf8').match(CALLS) ?? []),
  ];
  expect(sources.filter((source) => WRITES.test(source)).length).toBeGreaterThan(8);
  const written = new Set(sources.flatMap(kindsOf).filter((kind) => !kind.startsWith('patchbay.')));
  expect([...written].sort()).toEqual(Object.keys(EVENT_KINDS).sort());
});
