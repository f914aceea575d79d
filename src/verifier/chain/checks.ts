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
const TOKEN = new Interface(['function decimals() view returns (uint8)']);
/** What was signed needs no transaction yet that is final: a block has to be made this much later. */
const GRACE_MS = 3_600_000n;
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
  yield { document: null, about: 'the chain', steps: [checkChainId(on, chain)] };
  for (const epoch of on.epochs) {
    const step = await checkAnchor(epoch, anchor.address, chain);
    yield {
      document: epoch.name,
      about: `epoch ${epoch.number} on the chain`,
      steps: [...(anchor.step ?? []), step],
    };
  }
  const distributor = placeOf('distributor', on.distributor, given);
  for (const claim of on.claims) {
    const own = claim.document.claim.distributor;
    const why = `${own} is what the claim says itself; give --distributor with an address that you trust`;
    const place = distributor.address ?? own;
    const unsure =
      distributor.address === null ? [unchecked('chain.distributor.address', why)] : distributor.step;
    const steps = await checkPublished(claim, place, on.claims, chain);
    yield { document: claim.name, about: 'claim on the chain', steps: [...(unsure ?? []), ...steps] };
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
  if (stored === undefined)
    return fails('chain.contract', `no anchor contract is at ${address} at block ${chain.block}`);
  if (stored !== NOTHING) {
    const what = `${address} has another digest, size or digest before for epoch ${number}: ${stored}`;
    return fails('chain.anchor', what);
  }
  const [first] = (await chain.read(address, ANCHOR, 'firstEpoch', [])) ?? [];
  if (typeof first === 'bigint' && number < first) {
    return unchecked('chain.anchored', `anchoring began with epoch ${first}`);
  }
  const what = `${address} has nothing for epoch ${number} at block ${chain.block}`;
  if (isEarly(document.epoch.closedAt, chain))
    return unchecked('chain.anchored', `${what}, which was made less than an hour after the epoch closed`);
  return fails('chain.anchored', what);
}

/** Whether what was signed at a time may still be on its way to the block. */
function isEarly(signedAt: string, { time }: ChainView): boolean {
  return time < BigInt(signedAt) + GRACE_MS;
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
  const published = { sequence, root, claimed, block: chain.block, early: isEarly(document.signedAt, chain) };
  return [places, await checkDecimals(claim, token, chain), inForce(claim, published, all)];
}

/** How many decimals the token has decides what the payouts are in its units, and a claim can say any number. */
async function checkDecimals(claim: Claim['claim'], token: string, chain: ChainView): Promise<Step> {
  const step = 'chain.decimals';
  const [decimals] = (await chain.read(token, TOKEN, 'decimals', [])) ?? [];
  if (typeof decimals !== 'bigint') return unchecked(step, `the token ${token} does not say how many it has`);
  const wrong =
    decimals === BigInt(claim.decimals)
      ? []
      : [`the token ${token} has ${decimals} decimals, but the claim counts with ${claim.decimals}`];
  return judged(step, wrong, `the token ${token} has ${decimals}, as the claim counts`);
}

interface Published {
  readonly sequence: bigint;
  readonly root: string;
  readonly claimed: bigint;
  readonly block: bigint;
  /** Whether the claim is so new that its tree may be on its way. */
  readonly early: boolean;
}

function inForce(
  claim: Claim['claim'],
  { sequence, root, claimed, block, early }: Published,
  all: readonly Named<Claim>[],
): Step {
  const own = BigInt(claim.sequence);
  const step = 'chain.claim';
  if (sequence < own) {
    const what = `tree ${own} is not published at block ${block}, where tree ${sequence} is in force`;
    return early
      ? unchecked(step, `${what}, and which was made less than an hour after the claim was signed`)
      : fails(step, what);
  }
  if (sequence === own) {
    if (root !== claim.root)
      return fails(step, `tree ${own} was published with the root ${root}, but the claim has ${claim.root}`);
    return holds(step, `tree ${own} with the root ${short(root)} is in force at block ${block}`);
  }
  const later = all.find(
    ({ document: { claim: one } }) =>
      BigInt(one.sequence) === sequence &&
      one.chainId === claim.chainId &&
      sameAddress(one.distributor, claim.distributor) &&
      sameAddress(one.account, claim.account),
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
