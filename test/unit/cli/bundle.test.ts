import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest';
import { remoteError } from '../../../src/cli/graphql-client.ts';
import { openBundle } from '../../../src/verifier/bundle/source.ts';
import { objectOf } from '../../frauds/lies.ts';
import { at, type Json, vector } from '../verifier/vectors.ts';
import { type CliResult, cli } from './fake-io.ts';

// The CommonJS build, as in infer.test.ts.
const { buildSchema, graphql }: typeof import('graphql') = createRequire(import.meta.url)('graphql');

/** The fields that the command asks for, with the types that schema/*.graphql give them. */
const FIELDS = {
  receipts: 'receipts(adapterVersion: ID, first: Int = 20, after: String): Receipts!',
  epochs: 'epochs(first: Int = 20, after: String): Epochs!',
  epochStatement: 'epochStatement(number: BigInt!, adapterVersion: ID): Document',
  payoutClaim: 'payoutClaim(account: String): Claim',
};
const TYPES = `
  scalar BigInt
  type PageInfo { hasNextPage: Boolean! }
  type Document { document: String! }
  type Claim { document: String otherAccounts: [String!]! }
  type Receipts { edges: [ReceiptEdge!]! pageInfo: PageInfo! }
  type ReceiptEdge { cursor: String! node: Numbered! }
  type Numbered { receipt: Document! }
  type Epochs { edges: [EpochEdge!]! pageInfo: PageInfo! }
  type EpochEdge { cursor: String! node: Epoch! }
  type Epoch { number: BigInt! document: String! }
`;

const given = vector('epochs');
const own = given.views.filter(({ reader }) => reader === 'tenant').map(({ document }) => document);
const epochs = (given.epochs ?? []).map(({ document }) => document);
const tenant = String(at(given.statements?.[0] ?? null, 'subject'));

const folder = mkdtempSync(join(tmpdir(), 'patchbay-collect-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let server: Server;
let url = '';
/** What this server has; a test takes things away. */
let fields: Partial<typeof FIELDS>;
let paths: { [path: string]: Json };
/** Other accounts of the claim. */
let accounts: readonly string[] = [];
/** Which epochs it has. */
let closed = 0;
/** How many pages it answers before it breaks off. */
let pages = Number.POSITIVE_INFINITY;
let asked: { readonly path: string; readonly key: string | undefined }[] = [];

const PAGE = 3;
function page<T>(all: readonly T[], after: unknown) {
  const from = typeof after === 'string' ? Number(after) : 0;
  const items = all.slice(from, from + PAGE);
  return {
    edges: items.map((node, index) => ({ cursor: String(from + index + 1), node })),
    pageInfo: { hasNextPage: from + PAGE < all.length },
  };
}

const root = {
  receipts: ({ after }: { after?: string | null }) => {
    pages -= 1;
    if (pages < 0) throw new Error('The server stops.');
    return page(
      own.map((document) => ({ receipt: { document: JSON.stringify(document) } })),
      after,
    );
  },
  epochs: ({ after }: { after?: string | null }) =>
    page(
      epochs
        .slice(0, closed)
        .map((document, index) => ({ number: String(index + 1), document: JSON.stringify(document) })),
      after,
    ),
  epochStatement: ({ number }: { number: string }) => {
    const found = given.statements?.find(
      (statement) => at(statement, 'epoch') === String(number) && at(statement, 'subject') === tenant,
    );
    return found === undefined ? null : { document: JSON.stringify(found) };
  },
  payoutClaim: ({ account }: { account?: string | null }) => {
    const document = given.claims?.[0]?.document ?? null;
    if (account === null || account === undefined)
      return { document: JSON.stringify(document), otherAccounts: accounts };
    return { document: JSON.stringify({ ...objectOf(document), account }), otherAccounts: [] };
  },
};

beforeEach(async () => {
  fields = { ...FIELDS };
  pages = Number.POSITIVE_INFINITY;
  [accounts, closed] = [[], epochs.length];
  asked = [];
  const newest = { format: 'patchbay-head/1', log: given.log.id, head: at(epochs[2] ?? null, 'head') };
  paths = {
    '/log/v1/keys': given.keys,
    '/log/v1/head': newest,
    '/log/v1/chain': {
      ...{ format: 'patchbay-chain/1', log: given.log.id, chainId: '31337', anchor: null, distributor: null },
      ...{ token: null, decimals: null },
    },
    '/log/v1/proof/consistency?first=7&second=8': given.consistency[1] ?? null,
  };
  server = createServer((request, response) => {
    void (async () => {
      const path = request.url ?? '';
      asked.push({ path, key: request.headers.authorization });
      const send = (status: number, body: unknown): void => {
        response.writeHead(status, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      };
      if (path !== '/graphql') {
        const found = paths[path];
        if (found !== undefined) return send(200, found);
        return send(404, { error: { code: 'NOT_FOUND', message: `No ${path}.`, fix: '' } });
      }
      const { query, variables } = JSON.parse(await text(request));
      const schema = buildSchema(`${TYPES} type Query { ok: Boolean ${Object.values(fields).join(' ')} }`);
      const { data, errors } = await graphql({
        schema,
        source: query,
        variableValues: variables,
        rootValue: root,
      });
      const code = data === undefined ? 'GRAPHQL_INVALID' : 'INTERNAL';
      send(200, {
        data,
        ...(errors && { errors: errors.map(({ message }) => ({ message, extensions: { code } })) }),
      });
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address: AddressInfo | string | null = server.address();
  if (address === null || typeof address === 'string') throw new Error('The server has no port.');
  url = `http://127.0.0.1:${address.port}`;
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

let bundles = 0;
const nextFile = (): string => join(folder, `${bundles++}.zip`);
const bundle = (out: string, ...more: readonly string[]): Promise<CliResult> =>
  cli(['bundle', '--out', out, '--url', url, '--key', 'k', ...more]);

async function namesOf(path: string): Promise<readonly string[]> {
  const { files, close } = await openBundle(path);
  await close();
  return files.map(({ name }) => name.slice(1, -1));
}

test('everything that the caller may see is collected, and the bundle is verified and audited', async () => {
  const out = nextFile();
  const result = await bundle(out);
  expect(result.code).toBe(0);
  expect(result.out).toMatch(/\.zip: \d+ documents\n$/);
  expect(await namesOf(out)).toEqual([
    'chain.json',
    'claim.json',
    'consistency/7-8.json',
    ...[1, 2, 3].map((number) => `epochs/${number}.json`),
    'head.json',
    'keys.json',
    ...[0, 1, 2, 3, 4, 5, 6].map((number) => `receipts/0/00000${number}.json`),
    ...[1, 2, 3].map((number) => `statements/0/${number}.json`),
  ]);
  expect((await cli(['verify', out])).code).toBe(0);
  expect((await cli(['audit', out, '--epoch', '2'])).code).toBe(0);
  expect(existsSync(`${out}.part`)).toBe(false);
  // The log is for everybody: no key is sent there.
  const keys = asked.map(({ path, key }) => [path === '/graphql', key !== undefined]);
  expect(keys.every(([graphqlCall, withKey]) => graphqlCall === withKey)).toBe(true);
});

test('what the deployment does not have is a note, and no failure', async () => {
  fields = { receipts: FIELDS.receipts };
  const { '/log/v1/keys': keys, '/log/v1/head': head } = paths;
  paths = { '/log/v1/keys': keys ?? null, '/log/v1/head': head ?? null };
  const out = nextFile();
  const { code, out: printed } = await bundle(out, '--json');
  expect(code).toBe(0);
  const { notes, documents } = JSON.parse(printed);
  expect(documents).toBe(9);
  expect(notes.map((note: string) => note.split(':')[0])).toEqual([
    'There are no epochs',
    'There is no claim',
    'There is no chain',
    'The server gives no proof that its log of 7 leaves became that of 8',
  ]);
  expect((await cli(['verify', out])).code).toBe(0);
});

test('--epoch leaves out later ones, and --head asks for the proof from the head that was kept', async () => {
  const kept = join(folder, 'kept.json');
  writeFileSync(
    kept,
    JSON.stringify({ format: 'patchbay-head/1', log: given.log.id, head: at(epochs[0] ?? null, 'head') }),
  );
  const out = nextFile();
  const { code, out: printed } = await bundle(out, '--epoch', '1', '--head', kept);
  expect(code).toBe(0);
  expect(printed).toContain('no proof that its log of 4 leaves became that of 8');
  const names = await namesOf(out);
  expect(names.filter((name) => name.startsWith('epochs/'))).toEqual(['epochs/1.json']);
  expect(names).toContain('kept.json');
  expect(asked.map(({ path }) => path)).toContain('/log/v1/proof/consistency?first=4&second=8');
});

test('after a failure it goes on where it was, and asks for no page twice', async () => {
  const out = nextFile();
  pages = 2;
  expect((await bundle(out)).code).toBe(1);
  expect(existsSync(out)).toBe(false);
  expect(readdirSync(join(`${out}.part`, 'documents/receipts/0'))).toHaveLength(6);
  pages = 1;
  expect((await bundle(out)).code).toBe(0);
  expect((await namesOf(out)).filter((name) => name.startsWith('receipts/'))).toHaveLength(7);
});

test('an epoch that closes while receipts are collected is left out: its receipts may be missing', async () => {
  const out = nextFile();
  [pages, closed] = [2, 2];
  expect((await bundle(out)).code).toBe(1);
  [pages, closed] = [Number.POSITIVE_INFINITY, 3];
  expect((await bundle(out)).code).toBe(0);
  const names = (await namesOf(out)).filter((name) => /^(?:epochs|statements)/.test(name));
  expect(names).toEqual(['epochs/1.json', 'epochs/2.json', 'statements/0/1.json', 'statements/0/2.json']);
});

test('there is a claim for each account that was paid to', async () => {
  accounts = [`0x${'b1'.repeat(20)}`, `0x${'b2'.repeat(20)}`];
  const out = nextFile();
  expect((await bundle(out)).code).toBe(0);
  const names = (await namesOf(out)).filter((name) => name.startsWith('claim'));
  expect(names).toEqual(['claim.json', 'claims/0.json', 'claims/1.json']);
});

test('what a server says cannot command the terminal', () => {
  const [clear, turn] = ['\u001b[2J', '\u202e'];
  const log = given.log.id.slice(0, 8);
  const refused = remoteError({ code: `X${clear}`, message: `${log}${turn}`, fix: `a\r${clear}` });
  expect([refused.message, refused.fix]).toEqual([`X\\u{1b}[2J: ${log}\\u{202e}`, 'a\\u{d}\\u{1b}[2J']);
});

test('Ctrl-C ends it with 130 and keeps what it has', async () => {
  const out = nextFile();
  const { code, err } = await cli(['bundle', '--out', out, '--url', url, '--key', 'k'], {
    onInterrupt: (handler) => {
      handler();
      return () => {};
    },
  });
  expect([code, err]).toEqual([130, expect.stringContaining('the same command goes on')]);
  expect(existsSync(`${out}.part`)).toBe(true);
  expect(existsSync(out)).toBe(false);
});

test('a bundle that is there is not written over, and another one is not gone on with', async () => {
  const out = nextFile();
  writeFileSync(out, 'mine');
  expect((await bundle(out)).err).toMatch(/^BAD_INPUT: .+ is there already/);
  expect(readFileSync(out, 'utf8')).toBe('mine');
  const other = nextFile();
  pages = 1;
  await bundle(other);
  expect((await bundle(other, '--epoch', '1')).err).toMatch(
    /^BAD_INPUT: .+ is the beginning of another bundle/,
  );
});

test('where proofs are off, it says so', async () => {
  paths = {};
  const { code, err } = await bundle(nextFile());
  expect(code).toBe(3);
  expect(err).toMatch(/^NOT_FOUND: /);
});
