import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type CliResult, cli } from '../cli/fake-io.ts';
import { at, bent, type Json, vector, viewed } from './vectors.ts';

const folder = mkdtempSync(join(tmpdir(), 'patchbay-verify-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let files = 0;
function file(content: Json | Uint8Array): string {
  const path = join(folder, `${files++}.json`);
  writeFileSync(path, content instanceof Uint8Array ? content : JSON.stringify(content));
  return path;
}

/** An environment that no other command would start with: this one must not read it. */
const environment = { PATCHBAY_PORT: 'no port', DATABASE_URL: 'postgres://nobody@127.0.0.1:1/nothing' };
const verify = (...argv: readonly string[]): Promise<CliResult> => cli(['verify', ...argv], { environment });

const given = vector('blend');
const keys = file(given.keys);
const receipt = file(viewed(given));

test('a receipt that is true ends with 0, and every step is printed with what was compared', async () => {
  const { code, out, err } = await verify(receipt, '--keys', keys);
  expect([code, err]).toEqual([0, '']);
  expect(out).toMatch(/^✓ batch\.signature +signed by 0x[0-9a-fA-F]{40}, which was valid at 1764400000000$/m);
  expect(out).toMatch(/^– part\.0\.fee +fee is not open$/m);
  expect(out).toMatch(/^✓ part\.1\.lines +input \d+, cached \d+, output \d+, rankAmount \d+, royalty \d+$/m);
  expect(out).toMatch(/\n\nVerified: \d+ of \d+ steps hold, 2 could not be checked\.\n$/);
});

test('--json prints the same as a document', async () => {
  const { code, out } = await verify(receipt, '--keys', keys, '--json');
  const text = (await verify(receipt, '--keys', keys)).out;
  const document = JSON.parse(out);
  expect([code, document.format, document.verified]).toEqual([0, 'patchbay-verification/1', true]);
  for (const { step, result, compared } of document.steps) {
    expect(['true', 'false', 'unchecked']).toContain(result);
    expect(text).toContain(`${step} `);
    expect(text).toContain(`  ${compared}\n`);
  }
});

test('a receipt in which something is false ends with 1, and the other steps are shown all the same', async () => {
  const path = file(bent(viewed(given), ['opened', 5, 'value'], '1022'));
  const { code, out } = await verify(path, '--keys', keys);
  expect(code).toBe(1);
  expect(out).toMatch(
    /^✗ opened +promptTokens and its salt give [0-9a-f]{64}, but the commitment is [0-9a-f]{64}$/m,
  );
  expect(out).toMatch(/^✓ batch\.signature/m);
  expect(out).toMatch(/\n\nNot verified: 1 false, /);
  expect(JSON.parse((await verify(path, '--keys', keys, '--json')).out).verified).toBe(false);
});

test('an address can be pinned in the place of a list, with or without its checksum', async () => {
  const address = String(at(given.keys, 'keys', 0, 'address'));
  expect((await verify(receipt, '--trust', address)).code).toBe(0);
  expect((await verify(receipt, '--trust', address.toLowerCase())).code).toBe(0);
  expect((await verify(receipt, '--trust', `0x${'11'.repeat(20)}`)).code).toBe(1);
});

test('heads that were kept and proofs between heads are checked with it', async () => {
  const log = vector('log-7');
  const path = file(viewed(log));
  const proofs = log.consistency.slice(2, 4).flatMap((proof) => ['--head', file(proof)]);
  const { code, out } = await verify(path, '--keys', file(log.keys), ...proofs);
  expect(code).toBe(0);
  expect(out).toMatch(/^✓ heads\.1 +the tree of 3 is the beginning of that of 7$/m);
  expect(out).toMatch(/^✓ heads\.connected +all lead to the receipt's head of 7$/m);
});

const huge = join(folder, 'huge.json');
writeFileSync(huge, '');
truncateSync(huge, 9 * 1024 * 1024);
mkdirSync(join(folder, 'folder'));

test.each([
  ['no key list', [receipt], 'PROOF_KEYS_MISSING'],
  ['a file that is not there', [join(folder, 'none.json'), '--keys', keys], 'PROOF_UNREADABLE'],
  ['an empty folder', [join(folder, 'folder'), '--keys', keys], 'PROOF_FORMAT'],
  ['a file of 9 MiB', [huge, '--keys', keys], 'PROOF_UNREADABLE'],
  ['a file that is not JSON', [file(Buffer.from('receipt')), '--keys', keys], 'PROOF_UNREADABLE'],
  ['an unknown format', [file({ format: 'patchbay-receipt/2' }), '--keys', keys], 'PROOF_FORMAT'],
  ['a key list in the place of the receipt', [keys, '--keys', keys], 'PROOF_FORMAT'],
  ['a receipt in the place of the key list', [receipt, '--keys', receipt], 'PROOF_FORMAT'],
  ['a receipt in the place of a head', [receipt, '--keys', keys, '--head', receipt], 'PROOF_FORMAT'],
  ['a list in the place of a document', [file([]), '--keys', keys], 'PROOF_FORMAT'],
  ['an address that is none', [receipt, '--trust', '0x12'], 'PROOF_FORMAT'],
  [
    'an address with a wrong checksum',
    [receipt, '--trust', '0x7e5F4552091A69125d5DfCb7b8C2659029395Bdf'],
    'PROOF_FORMAT',
  ],
])('%s cannot be used: it ends with 2, a code and a fix', async (_, argv, wanted) => {
  const { code, out, err } = await verify(...argv);
  expect([code, out]).toEqual([2, '']);
  expect(err).toMatch(new RegExp(`^${wanted}: .+\nFix: .+\n$`));
  const json = await verify(...argv, '--json');
  expect([json.code, JSON.parse(json.err).error.code]).toEqual([2, wanted]);
});
