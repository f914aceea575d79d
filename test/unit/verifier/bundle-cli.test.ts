import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type CliResult, cli } from '../cli/fake-io.ts';
import { wholeBundle } from './bundles.ts';
import { at, bent, type Json, vector } from './vectors.ts';
import { zipped } from './zips.ts';

const folder = mkdtempSync(join(tmpdir(), 'patchbay-bundle-cli-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const given = vector('epochs');
const whole = wholeBundle(given);
const run = (...argv: readonly string[]): Promise<CliResult> =>
  cli(argv, { environment: { PATCHBAY_PORT: 'no port' } });

let bundles = 0;
async function zip(documents: { readonly [name: string]: Json }): Promise<string> {
  const path = join(folder, `${bundles++}.zip`);
  const files = Object.entries(documents).map(
    ([name, document]) => [`${name}.json`, JSON.stringify(document)] as const,
  );
  writeFileSync(path, await zipped(files));
  return path;
}

const good = await zip(whole);
const altered = {
  ...whole,
  'receipts/0': bent(whole['receipts/0'] ?? null, ['opened', 5, 'value'], '401'),
  'statements/0': bent(whole['statements/0'] ?? null, ['present', 'account', 'receipts'], '3'),
};

test('a bundle that is true: a line for each document, and what is said of all of them', async () => {
  const { code, out, err } = await run('verify', good);
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/^✓ "epochs\/0\.json", epoch 1: 4 of 4 steps hold$/m);
  expect(out).toMatch(
    /^✓ "receipts\/0\.json", receipt of request [0-9a-f-]{36}: \d+ of \d+ steps hold, 1 could not be checked$/m,
  );
  expect(out).toMatch(/^ {4}✓ accounts {2}\d+ tenants and versions: no number is counted twice$/m);
  expect(out).toMatch(/\n\nVerified: \d+ of \d+ steps hold in \d+ documents, \d+ could not be checked\.\n$/);
  // Steps of documents that hold are not printed one by one, unless that is asked for.
  expect(out).not.toContain('batch.signature');
  expect((await run('verify', good, '--verbose')).out).toContain('✓ batch.signature  signed by 0x');
});

test('the same bundle as a folder, with the keys apart', async () => {
  const root = join(folder, 'unpacked');
  for (const [name, document] of Object.entries(whole)) {
    const path = join(root, `${name}.json`);
    mkdirSync(dirname(path), { recursive: true });
    if (name !== 'keys') writeFileSync(path, JSON.stringify(document));
  }
  expect(await run('verify', root)).toMatchObject({ code: 2, out: '' });
  const keys = join(folder, 'keys.json');
  writeFileSync(keys, JSON.stringify(given.keys));
  expect((await run('verify', root, '--keys', keys)).code).toBe(0);
  expect((await run('verify', root, '--trust', String(at(given.keys, 'keys', 0, 'address')))).code).toBe(0);
});

test('what is false is printed with its document, and ends with 1', async () => {
  const path = await zip(altered);
  const { code, out } = await run('verify', path);
  expect(code).toBe(1);
  expect(out).toMatch(/^✗ "receipts\/0\.json"/m);
  expect(out).toMatch(/^ {4}✗ opened {2}promptTokens and its salt give [0-9a-f]{64}, but the commitment is/m);
  expect(out).toMatch(/^✗ "statements\/0\.json"/m);
  expect(out).toMatch(/^✓ "epochs\/0\.json"/m);
  const json = JSON.parse((await run('verify', path, '--json')).out);
  expect([json.format, json.verified]).toEqual(['patchbay-verification/1', false]);
  const wrong = json.steps.filter(({ result }: { result: string }) => result === 'false');
  expect(wrong).toContainEqual(expect.objectContaining({ document: '"receipts/0.json"', step: 'opened' }));
});

test('an epoch, a statement or a claim can be given alone', async () => {
  const path = join(folder, 'epoch.json');
  const keys = join(folder, 'epoch-keys.json');
  writeFileSync(path, JSON.stringify(whole['epochs/1']));
  writeFileSync(keys, JSON.stringify(given.keys));
  expect((await run('verify', path, '--keys', keys)).out).toMatch(
    /^✓ ".+epoch\.json", epoch 2: 4 of 4 steps hold$/m,
  );
});

test('an audit that finds nothing ends with 0', async () => {
  const { code, out, err } = await run('audit', good, '--epoch', '1');
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/Nothing found in epoch 1\.\n$/);
});

test('an audit prints each finding with its evidence and whom it convinces, and ends with 1', async () => {
  const { 'receipts/2': _, ...fewer } = whole;
  const { 'epochs/1': __, 'epochs/2': ___, ...early } = fewer;
  const path = await zip(early);
  const { code, out } = await run('audit', path, '--epoch', '1', '--account', `0x${'11'.repeat(20)}`);
  expect(code).toBe(1);
  expect(out).toMatch(/^✗ ACCOUNT_UNEXPECTED {2}tree 1 pays the account 0x.+, not 0x1+$/m);
  expect(out).toMatch(/^ {4}convinces {2}the holder\n {4}evidence {3}"claims\/0\.json"$/m);
  const json = JSON.parse((await run('audit', path, '--epoch', '1', '--json')).out);
  expect([json.format, json.epoch, json.clean]).toEqual(['patchbay-audit/1', '1', false]);
  expect(json.findings[0]).toEqual({
    code: expect.any(String),
    message: expect.any(String),
    evidence: expect.any(Array),
    convinces: expect.any(String),
  });
});

test.each([
  ['an epoch that is not there', ['audit', good, '--epoch', '9'], 'PROOF_EPOCH_MISSING'],
  ['nothing to verify', ['verify', await zip({ keys: given.keys })], 'PROOF_FORMAT'],
  ['two key lists', ['verify', await zip({ ...whole, other: vector('plain').keys })], 'PROOF_KEYS_MISSING'],
  ['a document of another kind', ['verify', await zip({ ...whole, other: { format: 'x' } })], 'PROOF_FORMAT'],
  ['a chain option without a chain', ['verify', good, '--anchor', `0x${'11'.repeat(20)}`], 'BAD_INPUT'],
  ['an account that is none', ['audit', good, '--epoch', '1', '--account', '0x11'], 'PROOF_FORMAT'],
])('%s: it ends with 2, a code and a fix', async (_, argv, wanted) => {
  const { code, out, err } = await run(...argv);
  expect([code, out]).toEqual([2, '']);
  expect(err).toMatch(new RegExp(`^${wanted}: .+\nFix: .+\n$`));
});

test('a node that does not answer ends with 4', async () => {
  const { code, err } = await run('verify', good, '--rpc', 'http://127.0.0.1:1');
  expect(code).toBe(4);
  expect(err).toMatch(/^CHAIN_UNREACHABLE: /);
});

test('the same document twice counts once, and another log is told', async () => {
  const { sections } = await import('./bundles.ts').then(({ examined }) =>
    examined({ ...whole, copy: whole['epochs/0'] ?? null }),
  );
  expect(sections.filter(({ about }) => about === 'epoch 1')).toHaveLength(1);
  const stranger = vector('plain').views[0]?.document ?? null;
  const { out } = await run('verify', await zip({ ...whole, stranger }));
  expect(out).toMatch(/^ {4}✗ log {2}".+" is of [0-9a-f]{64}, but "stranger\.json" of [0-9a-f]{64}$/m);
});
