import { Interface } from 'ethers';
import type { Named } from '../bundle/dossier.ts';
import type { Section } from '../bundle/sections.ts';
import { sameAddress } from '../checks/claim.ts';
import type { KnownEpoch } from '../findings/epochs.ts';
import type { Chain, Claim } from '../input/claims.ts';
import { short } from '../shown.ts';
import { fails, holds, judged, type Step, unchecked } from '../step.ts';
import type { ChainView } from './view.ts';

const ANCHOR = new Interface([
  'function isAnchored((uint64 number, uint64 size, bytes32 root, bytes32 previousRoot) epoch) view returns (bool)',
  'function commitments(uint64 number) view returns (bytes32)',
  'function firstEpoch() view returns (uint64)',
]);
const DISTRIBUTOR = new Interface([
  'function sequence() view returns (uint64)',
  'function root() view returns (bytes32)',
  'function token() view returns (address)',
  'function claimed(address account) view returns (uint256)',
]);
const NOTHING = `0x${'0'.repeat(64)}`;

/** What is compared with the chain, and where the contracts are. */
export interface OnChain {
  readonly epochs: Iterable<KnownEpoch>;
  readonly claims: readonly Named<Claim>[];
  readonly chains: readonly Named<Chain>[];
  /** Addresses that the reader gives; null: those of the bundle, which nobody signed. */
  readonly anchor: string | null;
  readonly distributor: string | null;
}

/** Compares epochs and claims with the contracts, at a block that is final. */
export async function* checkOnChain(on: OnChain, chain: ChainView): AsyncGenerator<Section> {
  const [given] = on.chains;
  const anchor = placeOf('anchor', on.anchor, given);
  yield { document: null, about: 'the chain', steps: [checkChainId(on, chain), ...(anchor.step ?? [])] };
  for (const epoch of on.epochs) {
    const step = await checkAnchor(epoch, anchor.address, chain);
    yield { document: epoch.name, about: `epoch ${epoch.number} on the chain`, steps: [step] };
  }
  const distributor = placeOf('distributor', on.distributor, given);
  for (const claim of on.claims) {
    const place = distributor.address ?? claim.document.claim.distributor;
    const steps = await checkPublished(claim, place, on.claims, chain);
    yield {
      document: claim.name,
      about: 'claim on the chain',
      steps: [...(distributor.step ?? []), ...steps],
    };
  }
}

function checkChainId({ claims, chains }: OnChain, { chainId, block }: ChainView): Step {
  const wrong = [
    ...chains.map(({ name, document }) => [name, document.chainId] as const),
    ...claims.map(({ name, document }) => [name, document.claim.chainId] as const),
  ]
    .filter(([, id]) => id !== null && BigInt(id) !== chainId)
    .map(([name, id]) => `the node serves chain ${chainId}, but ${name} is of chain ${id}`);
  return judged('chain.id', wrong, `chain ${chainId}, as it is at the final block ${block}`);
}

function placeOf(name: 'anchor' | 'distributor', reader: string | null, chain: Named<Chain> | undefined) {
  if (reader !== null) return { address: reader, step: null };
  const address = chain?.document[name] ?? null;
  if (chain === undefined || address === null) return { address: null, step: null };
  const why = `${address} is what ${chain.name} says, which nobody signed; give --${name} with an address that you trust`;
  return { address, step: [unchecked(`chain.${name}.address`, why)] };
}

async function checkAnchor(epoch: KnownEpoch, address: string | null, chain: ChainView): Promise<Step> {
  if (address === null)
    return unchecked('chain.anchor', 'nothing says where the anchor contract is; give --anchor');
  const { number, digest, document } = epoch;
  const { size, previous } = document.epoch;
  const values = [number, size, `0x${digest}`, `0x${previous}`];
  const [anchored] = (await chain.read(address, ANCHOR, 'isAnchored', [values])) ?? [];
  if (anchored === true) {
    return holds(
      'chain.anchor',
      `${address} has digest ${short(digest)}, size ${size} and the digest before at block ${chain.block}`,
    );
  }
  if (anchored === undefined)
    return fails('chain.contract', `no anchor contract is at ${address} at block ${chain.block}`);
  const [stored] = (await chain.read(address, ANCHOR, 'commitments', [number])) ?? [];
  if (stored !== NOTHING) {
    const what = `${address} has another digest, size or digest before for epoch ${number}: ${stored}`;
    return fails('chain.anchor', what);
  }
  const [first] = (await chain.read(address, ANCHOR, 'firstEpoch', [])) ?? [];
  if (typeof first === 'bigint' && number < first) {
    return unchecked('chain.anchored', `anchoring began with epoch ${first}`);
  }
  return fails('chain.anchored', `${address} has nothing for epoch ${number} at block ${chain.block}`);
}

/** The root of the claim is in force, or another one under which the account has no less. */
async function checkPublished(
  { document }: Named<Claim>,
  address: string,
  all: readonly Named<Claim>[],
  chain: ChainView,
): Promise<readonly Step[]> {
  const { claim } = document;
  const read = async (name: string, args: readonly unknown[] = []): Promise<unknown> =>
    (await chain.read(address, DISTRIBUTOR, name, args))?.[0];
  const [sequence, root, token] = [await read('sequence'), await read('root'), await read('token')];
  const claimed = await read('claimed', [claim.account]);
  if (
    typeof sequence !== 'bigint' ||
    typeof root !== 'string' ||
    typeof token !== 'string' ||
    typeof claimed !== 'bigint'
  ) {
    return [fails('chain.contract', `no distributor is at ${address} at block ${chain.block}`)];
  }
  const wrong: string[] = [];
  if (!sameAddress(address, claim.distributor))
    wrong.push(`the claim is of the distributor ${claim.distributor}`);
  if (!sameAddress(token, claim.token))
    wrong.push(`the distributor pays ${token}, but the claim is of ${claim.token}`);
  const places = judged(
    'chain.distributor',
    wrong,
    `${address} pays the token ${token}; ${claimed} was claimed`,
  );
  return [places, inForce(claim, { sequence, root, claimed, block: chain.block }, all)];
}

interface Published {
  readonly sequence: bigint;
  readonly root: string;
  readonly claimed: bigint;
  readonly block: bigint;
}

function inForce(
  claim: Claim['claim'],
  { sequence, root, claimed, block }: Published,
  all: readonly Named<Claim>[],
): Step {
  const own = BigInt(claim.sequence);
  const step = 'chain.claim';
  if (sequence < own)
    return fails(step, `tree ${own} is not published at block ${block}, where tree ${sequence} is in force`);
  if (sequence === own) {
    if (root !== claim.root)
      return fails(step, `tree ${own} was published with the root ${root}, but the claim has ${claim.root}`);
    return holds(step, `tree ${own} with the root ${short(root)} is in force at block ${block}`);
  }
  const later = all.find(
    ({ document }) =>
      BigInt(document.claim.sequence) === sequence && sameAddress(document.claim.account, claim.account),
  );
  if (later !== undefined) {
    const has = later.document.claim;
    if (has.root !== root)
      return fails(
        step,
        `tree ${sequence} was published with the root ${root}, but ${later.name} has ${has.root}`,
      );
    if (BigInt(has.cumulative) < BigInt(claim.cumulative)) {
      return fails(
        step,
        `in tree ${sequence}, which is in force, the account has ${has.cumulative}, which is less than ${claim.cumulative}`,
      );
    }
    return holds(step, `tree ${sequence}, which is in force, has ${has.cumulative}, which is no less`);
  }
  if (claimed >= BigInt(claim.cumulative))
    return holds(step, `the account has claimed ${claimed}, which is no less`);
  return unchecked(step, `tree ${sequence} is in force; what the account has in it, only its claim says`);
}
