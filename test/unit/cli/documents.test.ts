import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { expect, test } from 'vitest';
import { banner } from '../../../src/cli/banner.ts';
import { CLAIM, EPOCHS, RECEIPTS, STATEMENT } from '../../../src/cli/bundle/queries.ts';
import { LIST } from '../../../src/cli/commands/adapter.ts';
import { SUBSCRIPTION } from '../../../src/cli/commands/infer.ts';

const { buildSchema, parse, validate }: typeof import('graphql') = createRequire(import.meta.url)('graphql');

const schema = buildSchema(
  readdirSync('schema')
    .filter((name) => name.endsWith('.graphql'))
    .map((name) => readFileSync(`schema/${name}`, 'utf8'))
    .join('\n'),
);

/** The two documents that the printed examples carry. */
function printedDocuments(): string[] {
  const text = banner(
    {
      graphqlUrl: 'http://127.0.0.1:4000/graphql',
      backbone: { name: 'starter', digest: 'ab'.repeat(32), parameters: 1 },
      memory: { totalBytes: 0, parts: [] },
      database: { kind: 'embedded', location: '/data' },
      operatorKey: { kind: 'stored', prefix: 'a' },
      demoKey: { kind: 'stored', prefix: 'b' },
      example: { adapter: 'a', prompt: 'p', folder: 'f' },
    },
    { readyMs: 1, keyFile: 'k', chain: null },
  );
  return [/"query":"([^"]*)"/.exec(text)?.[1] ?? '', /query: "([^"]*)"/.exec(text)?.[1] ?? ''];
}

test.each([LIST, SUBSCRIPTION, RECEIPTS, EPOCHS, STATEMENT, CLAIM, ...printedDocuments()])(
  'the document %j fits the schema',
  (document) => {
    expect(validate(schema, parse(document))).toEqual([]);
  },
);
