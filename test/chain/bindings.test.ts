import { Interface } from 'ethers';
import { expect, test } from 'vitest';
import { type Artifact, readOwnArtifact } from '../../src/chain/artifact.ts';
import { ANCHOR_ABI } from '../../src/chain/attribution-anchor.ts';
import { DISTRIBUTOR_ABI } from '../../src/chain/royalty-distributor.ts';
import { TOKEN_ABI } from '../../src/chain/token.ts';
import { mockTokenArtifact } from '../kit/anvil.ts';

/** What an interface says, without the names that it gives to arguments of calls and to answers. */
function lines(abi: Interface, kinds: readonly string[]): readonly string[] {
  return abi.fragments
    .filter(({ type }) => kinds.includes(type))
    .map((fragment) => fragment.format('full').replace(/ returns \((\S+) \w+\)/, ' returns ($1)'))
    .sort();
}

function compiled({ abi }: Artifact): Interface {
  return new Interface(abi);
}

test('every function, event and error that the program knows is in the compiled contracts as it is written', async () => {
  const token = compiled(await mockTokenArtifact());
  const pairs: readonly (readonly [Interface, readonly Interface[]])[] = [
    [ANCHOR_ABI, [compiled(await readOwnArtifact('AttributionAnchor'))]],
    // The distributor passes on what the token refuses with.
    [DISTRIBUTOR_ABI, [compiled(await readOwnArtifact('RoyaltyDistributor')), token]],
    [TOKEN_ABI, [token]],
  ];
  const kinds = ['function', 'event', 'error'];
  for (const [written, artifacts] of pairs) {
    const known = artifacts.flatMap((artifact) => lines(artifact, kinds));
    const missing = lines(written, kinds).filter((line) => !known.includes(line));
    expect(missing).toEqual([]);
  }
});

test('every error of the compiled contracts can be read', async () => {
  const anchor = lines(compiled(await readOwnArtifact('AttributionAnchor')), ['error']);
  expect(anchor.filter((line) => !lines(ANCHOR_ABI, ['error']).includes(line))).toEqual([]);
  const distributor = lines(compiled(await readOwnArtifact('RoyaltyDistributor')), ['error']);
  expect(distributor.filter((line) => !lines(DISTRIBUTOR_ABI, ['error']).includes(line))).toEqual([]);
});
