import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Wallet } from 'ethers';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PayoutTree } from '../../src/chain/payout-tree.ts';
import { ANVIL_KEY, Anvil } from '../kit/anvil.ts';
import { atFileEnd } from '../kit/file-end.ts';
import { cli } from '../unit/cli/fake-io.ts';
import { claimOf, payoutSite, type Site } from './payout-site.ts';

let chain: Anvil;
let site: Site;
let folder: string;

beforeAll(async () => {
  chain = await Anvil.start();
  const boss = chain.account(1);
  site = await payoutSite(chain, { owner: boss, publisher: boss, pauser: boss, funder: chain.account(2) });
  folder = mkdtempSync(join(tmpdir(), 'patchbay-test-claim-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a claim holds, as the server tells it. */
function membersOf(tree: PayoutTree, account: string) {
  const { cumulative, proof } = claimOf(tree, account);
  const { distributor, token, chainId } = site.scope;
  return {
    ...{ chainId: String(chainId), distributor, token, root: tree.root, account, proof },
    cumulative: String(cumulative),
  };
}

/** Writes the document of a claim; answers its path. */
function document(members: object): string {
  const file = join(folder, 'claim.json');
  writeFileSync(file, JSON.stringify({ format: 'patchbay-claim/1', claim: { ...members, decimals: '6' } }));
  return file;
}

const environment = (extra: Readonly<Record<string, string>> = {}) => ({
  PATCHBAY_CHAIN_CLAIM_KEY: ANVIL_KEY,
  ...extra,
});
const send = (args: readonly string[], extra: Readonly<Record<string, string>> = {}) =>
  cli(['claim', '--rpc', chain.url, ...args], { environment: environment(extra) });

test('a claim is sent with any wallet, pays its account, and says every reason why it would not be paid', async () => {
  const account = Wallet.createRandom().address;
  const tree = await site.tree([account, 1_500_000n], [chain.account(5), 7n]);
  const file = document(membersOf(tree, account));
  expect((await send([file])).err).toContain('CLAIM_OUT_OF_DATE');
  await site.publish(tree);
  expect((await send([file])).err).toContain('CLAIM_UNDERFUNDED');
  await site.give(10_000_000n);
  await chain.send(chain.account(1), site.distributor.pause());
  expect((await send([file])).err).toContain('CLAIM_PAUSED');
  await chain.send(chain.account(1), site.distributor.unpause());
  const poor = Wallet.createRandom().privateKey;
  expect((await send([file], { PATCHBAY_CHAIN_CLAIM_KEY: poor })).err).toContain('CHAIN_GAS_EMPTY');
  expect((await send([file], { PATCHBAY_CHAIN_CLAIM_KEY: 'ab' })).code).not.toBe(0);
  expect(await site.token.balanceOf(account)).toBe(0n);

  const { code, out, err } = await send([file]);
  expect(err).toContain('Sending 0x');
  expect(code).toBe(0);
  expect(out).toContain(`${account} was paid 1.5, and 1.5 in all.`);
  expect(await site.token.balanceOf(account)).toBe(1_500_000n);
  expect((await send([file])).err).toContain('CLAIM_NOTHING');

  // An older claim, from before the next tree.
  const next = await site.tree([account, 2_000_000n]);
  await site.publish(next);
  const lie = document({ ...membersOf(next, account), cumulative: '3000000' });
  expect((await send([lie])).err).toMatch(/CHAIN_REVERTED.*InvalidProof/s);
  const json = await send([document(membersOf(next, account)), '--json']);
  expect(JSON.parse(json.out)).toMatchObject({ account, paid: '500000', cumulative: '2000000' });
});

test('what is no claim, or of another chain or contract, is not sent', async () => {
  const account = chain.account(6);
  const members = membersOf(await site.tree([account, 1n]), account);
  const count = () => chain.provider.getTransactionCount(chain.account(0));
  const before = await count();
  expect((await send([join(folder, 'none.json')])).err).toContain('FILE_MISSING');
  expect((await send([document({ ...members, proof: 'x' })])).err).toContain('BAD_INPUT');
  expect((await send([document({ ...members, chainId: '1' })])).err).toContain('CHAIN_MISMATCH');
  const elsewhere = document({ ...members, distributor: chain.account(7) });
  expect((await send([elsewhere])).err).toContain('CHAIN_CODE_DIFFERS');
  const another = document({ ...members, token: chain.account(7) });
  expect((await send([another])).err).toContain('CHAIN_CODE_DIFFERS');
  const keyless = await cli(['claim', document(members), '--rpc', chain.url], { environment: {} });
  expect(keyless.err).toContain('PATCHBAY_CHAIN_CLAIM_KEY');
  expect((await cli(['claim', document(members)], { environment: environment() })).err).toContain('--rpc');
  expect(await count()).toBe(before);
});

test('without a file the claim is fetched from the server', async () => {
  const account = Wallet.createRandom().address;
  const tree = await site.tree([account, 3_000_000n]);
  await site.publish(tree);
  await site.give(3_000_000n);
  const asked: string[] = [];
  let answer: object | null = { ...membersOf(tree, account), decimals: 6 };
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    asked.push(`${request.headers.authorization} ${JSON.stringify(JSON.parse(body).variables)}`);
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ data: { payoutClaim: answer } }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  atFileEnd(() => new Promise((resolve) => server.close(() => resolve(undefined))));
  const at = server.address();
  if (at === null || typeof at === 'string') throw new Error('The server has a port.');
  const flags = ['--url', `http://127.0.0.1:${at.port}`, '--key', 'pbt_x', '--account', account];
  expect((await send(flags)).out).toContain(`${account} was paid 3.0`);
  expect(asked).toEqual([`Bearer pbt_x {"account":"${account}","distributor":null}`]);
  answer = null;
  expect((await send(flags)).err).toContain('CLAIM_NOTHING');
});
