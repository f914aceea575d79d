import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { readOwnArtifact } from '../../src/chain/artifact.ts';
import { type AnchoredEpoch, AttributionAnchor } from '../../src/chain/attribution-anchor.ts';
import { HOUR, START } from '../frauds/operator.ts';
import { type Documents, Scenario } from '../frauds/scenario.ts';
import { ANVIL_CHAIN, Anvil } from '../kit/anvil.ts';
import { cli } from '../unit/cli/fake-io.ts';
import { at, bent } from '../unit/verifier/vectors.ts';
import { zipped } from '../unit/verifier/zips.ts';
import { OWNER_DELAY } from './owned.ts';
import { payoutSite, type Site } from './payout-site.ts';

const folder = mkdtempSync(join(tmpdir(), 'patchbay-verify-chain-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let chain: Anvil;
let anchor: AttributionAnchor;
let site: Site;
let scenario: Scenario;
let documents: Documents;
let wallet: string;

beforeAll(async () => {
  chain = await Anvil.start();
  const [owner, publisher] = [chain.account(1), chain.account(2)];
  const artifact = await readOwnArtifact('AttributionAnchor');
  const address = await chain.deploy(chain.account(0), artifact, [1n, OWNER_DELAY, owner, publisher]);
  anchor = new AttributionAnchor(chain.provider, address);
  site = await payoutSite(chain, { owner, publisher, pauser: chain.account(3), funder: chain.account(4) });
  wallet = chain.account(6);
  scenario = await Scenario.play();
  // The third is not anchored yet.
  for (const number of [1, 2]) {
    await chain.send(publisher, anchor.anchor(anchored(number), number === 1 ? null : anchored(number - 1)));
  }
  documents = { ...(await scenario.public()), claim: await claim(1, 5_000_000_000n) };
  await publish(documents);
});

function anchored(number: number): AnchoredEpoch {
  const previous = number === 1 ? '0'.repeat(64) : scenario.books.digest(number - 1);
  const size = BigInt(String(at(scenario.epochs[number - 1] ?? null, 'epoch', 'size')));
  return {
    number: BigInt(number),
    size,
    root: `0x${scenario.books.digest(number)}`,
    previousRoot: `0x${previous}`,
  };
}

function claim(sequence: number, amount: bigint) {
  const scope = { chainId: ANVIL_CHAIN, distributor: site.distributor.address, token: site.token.address };
  const payouts = [{ amount, earnedBefore: START + HOUR }];
  return scenario.books.claim({ account: wallet, sequence, payouts, scope });
}

/** Publishes the root of a claim. */
async function publish({ claim: given = null }: Documents): Promise<void> {
  const [root, sequence] = [
    String(at(given, 'claim', 'root')),
    BigInt(String(at(given, 'claim', 'sequence'))),
  ];
  await chain.send(chain.account(2), site.distributor.publish(sequence, root, 10_000_000n));
}

let bundles = 0;
/** The steps that a chain was asked for, with their results. */
async function stepsOf(given: Documents, ...flags: readonly string[]) {
  const path = join(folder, `${bundles++}.zip`);
  writeFileSync(
    path,
    await zipped(Object.entries(given).map(([name, one]) => [`${name}.json`, JSON.stringify(one)])),
  );
  const argv = ['verify', path, '--rpc', chain.url, '--confirmations', '0', '--json', ...flags];
  const { code, out } = await cli(argv, { environment: {} });
  const { steps } = JSON.parse(out);
  const found: [string, string, string][] = steps
    .filter(({ step }: { step: string }) => step.startsWith('chain.'))
    .map(({ document, step, result }: Record<string, string>) => [document, step, result]);
  return { code, found };
}

const contracts = () => ['--anchor', anchor.address, '--distributor', site.distributor.address];

describe('with contracts on a chain', () => {
  test('what is anchored and published holds, and what is not there yet is false', async () => {
    const { code, found } = await stepsOf(documents, ...contracts());
    expect(found).toEqual([
      [null, 'chain.id', 'true'],
      ['"epoch-1.json"', 'chain.anchor', 'true'],
      ['"epoch-2.json"', 'chain.anchor', 'true'],
      ['"epoch-3.json"', 'chain.anchored', 'false'],
      ['"claim.json"', 'chain.distributor', 'true'],
      ['"claim.json"', 'chain.decimals', 'true'],
      ['"claim.json"', 'chain.claim', 'true'],
    ]);
    expect(code).toBe(1);
    const { 'epoch-3': _, ...early } = documents;
    expect((await stepsOf(early, ...contracts())).code).toBe(0);
  });

  test('addresses of the bundle are used when none is given, and said to be unsigned', async () => {
    const place = {
      ...{
        format: 'patchbay-chain/1',
        log: at(documents['keys'] ?? null, 'log'),
        chainId: String(ANVIL_CHAIN),
      },
      ...{
        anchor: anchor.address,
        distributor: site.distributor.address,
        token: site.token.address,
        decimals: '6',
      },
    };
    const { found } = await stepsOf({ ...documents, place });
    expect(found).toContainEqual(['"epoch-1.json"', 'chain.anchor.address', 'unchecked']);
    expect(found).toContainEqual(['"claim.json"', 'chain.distributor.address', 'unchecked']);
    expect(found).toContainEqual(['"epoch-2.json"', 'chain.anchor', 'true']);
    const elsewhere = bent(place, ['chainId'], '5');
    expect((await stepsOf({ ...documents, place: elsewhere })).found).toContainEqual([
      null,
      'chain.id',
      'false',
    ]);
  });

  test('an epoch that was signed anew is not the one that was anchored', async () => {
    const anew = await Scenario.play({ lie: (facts) => ({ ...facts, finish: 'length' }) });
    const { found } = await stepsOf(await anew.public(), ...contracts());
    expect(found).toContainEqual(['"epoch-1.json"', 'chain.anchor', 'false']);
  });

  test('an address without the contract is told', async () => {
    const { found } = await stepsOf(documents, '--anchor', wallet, '--distributor', wallet);
    expect(found).toContainEqual(['"epoch-1.json"', 'chain.contract', 'false']);
    expect(found).toContainEqual(['"claim.json"', 'chain.contract', 'false']);
  });

  test('without --confirmations, the block is the one that the chain calls finalized', async () => {
    const path = join(folder, 'finalized.zip');
    const files = Object.entries(documents).map(
      ([name, one]) => [`${name}.json`, JSON.stringify(one)] as const,
    );
    writeFileSync(path, await zipped(files));
    const { out } = await cli(['verify', path, '--rpc', chain.url, ...contracts()]);
    expect(out).toMatch(/✓ chain\.id {2}chain 31337, as it is at the final block \d+$/m);
  });

  test('a tree that was followed by another one holds when the account has no less in that, or has claimed as much', async () => {
    const next = { ...documents, claim: await claim(2, 6_000_000_000n) };
    await publish(next);
    expect((await stepsOf(documents, ...contracts())).found).toContainEqual([
      '"claim.json"',
      'chain.claim',
      'unchecked',
    ]);
    const both = { ...documents, later: next.claim };
    const { found } = await stepsOf(both, ...contracts());
    expect(found).toContainEqual(['"claim.json"', 'chain.claim', 'true']);
    expect(found).toContainEqual(['"later.json"', 'chain.claim', 'true']);
    const less = { ...documents, later: await claim(2, 4_000_000_000n) };
    expect((await stepsOf(less, ...contracts())).found).toContainEqual([
      '"later.json"',
      'chain.claim',
      'false',
    ]);
    const early = { ...documents, claim: await claim(3, 6_000_000_000n) };
    expect((await stepsOf(early, ...contracts())).found).toContainEqual([
      '"claim.json"',
      'chain.claim',
      'false',
    ]);
  });
});
