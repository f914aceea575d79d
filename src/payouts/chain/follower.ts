import type { Provider } from 'ethers';
import type { PoolClient } from 'pg';
import type { EventPlace } from '../../chain/call.ts';
import { chainFailure } from '../../chain/failure.ts';
import { RoyaltyDistributor } from '../../chain/royalty-distributor.ts';
import { Token } from '../../chain/token.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { Distributors } from './distributors.ts';
import { BlockRanges } from './ranges.ts';
import type { BlockRef, ChainDeps, Distributor } from './types.ts';

/** An event as it is kept. */
interface KeptEvent extends EventPlace {
  readonly kind: 'RECEIVED' | 'FUNDED' | 'PUBLISHED' | 'CLAIMED';
  readonly account: string | null;
  readonly sequence: bigint | null;
  readonly root: string | null;
  readonly units: bigint;
  readonly cumulative: bigint | null;
}

interface FollowRow {
  readonly block_number: string;
  readonly block_hash: Buffer;
  readonly balance_block: string;
}

const WHERE_TO =
  'SELECT block_number::text, block_hash, balance_block::text FROM payout_chain_follow WHERE distributor_id = $1';

const KEEP = `
INSERT INTO payout_chain_event (distributor_id, block_number, log_index, block_hash, transaction_hash, kind, account,
  sequence, root, units, cumulative, seen_at)
SELECT $1, e.block, e.log, decode(e.hash, 'hex'), decode(e.transaction, 'hex'), e.kind, e.account, e.sequence,
       decode(e.root, 'hex'), e.units, e.cumulative, $12
FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[],
  $10::numeric[], $11::numeric[]) AS e(block, log, hash, transaction, kind, account, sequence, root, units, cumulative)`;

const MOVE_ON = `
UPDATE payout_chain_follow SET block_number = $2, block_hash = $3, followed_at = $4 WHERE distributor_id = $1`;

const WEIGH = `
UPDATE payout_chain_follow SET balance_block = $2, balance_units = $3
WHERE distributor_id = $1 AND block_number = $2 AND balance_block < $2`;

/** Reads what the chain says of the distributor, up to the newest final block, and keeps it. */
export class ChainFollower {
  readonly #ranges: BlockRanges;
  readonly #distributors: Distributors;
  readonly #deps: Pick<ChainDeps, 'database' | 'clock' | 'chain'>;

  constructor(
    options: { readonly blocksMax: number },
    dependencies: Pick<ChainDeps, 'database' | 'clock' | 'chain'> & { readonly distributors: Distributors },
  ) {
    this.#ranges = new BlockRanges(options);
    this.#distributors = dependencies.distributors;
    this.#deps = dependencies;
  }

  /** Goes on where the last run, or another process, has stopped. */
  async run(): Promise<void> {
    const { chain, database } = this.#deps;
    const distributor = await this.#distributors.open();
    const [row] = await database.querySystem<FollowRow>(WHERE_TO, [distributor.id]);
    if (row === undefined) throw new Error('A distributor that is stored is followed.');
    const final = await chain.finalBlock();
    const provider = await chain.provider();
    await requireSameBlock(provider, Number(row.block_number), `0x${row.block_hash.toString('hex')}`);
    if (final === null || final.number < Number(row.block_number)) return;
    let from = Number(row.block_number) + 1;
    while (from <= final.number) {
      const { to, value } = await this.#ranges.next(from, final.number, (first, last) =>
        readEvents(provider, distributor, first, last),
      );
      const block = to === final.number ? final : await blockAt(provider, to);
      if (!(await this.#keep(distributor.id, from - 1, block, value))) return;
      from = to + 1;
    }
    if (Number(row.balance_block) < final.number) await this.#weigh(provider, distributor, final);
  }

  /** Keeps the events behind a block; false when another process has done so. */
  #keep(id: Uuid, behind: number, block: BlockRef, events: readonly KeptEvent[]): Promise<boolean> {
    const at = new Date(this.#deps.clock.nowMs()).toISOString();
    return this.#deps.database.withSystemPg(async (client) => {
      const { rows } = await client.query<FollowRow>(`${WHERE_TO} FOR NO KEY UPDATE`, [id]);
      if (Number(rows[0]?.block_number) !== behind) return false;
      if (events.length > 0) await insertEvents(client, id, events, at);
      await client.query(MOVE_ON, [id, block.number, bytesOf(block.hash), at]);
      return true;
    });
  }

  async #weigh(provider: Provider, { id, distributor, token }: Distributor, block: BlockRef): Promise<void> {
    const held = await new Token(provider, token).balanceOf(distributor, block.number);
    await this.#deps.database.querySystem(WEIGH, [id, block.number, String(held)]);
  }
}

async function readEvents(
  provider: Provider,
  place: Distributor,
  fromBlock: number,
  toBlock: number,
): Promise<readonly KeptEvent[]> {
  const range = { fromBlock, toBlock };
  const { funded, published, claimed } = await new RoyaltyDistributor(provider, place.distributor).events(
    range,
  );
  const received = await new Token(provider, place.token).receivedBy(place.distributor, range);
  const none = { account: null, sequence: null, root: null, cumulative: null };
  return [
    ...received.map(({ from, value, ...at }) => ({
      ...{ ...none, ...at, kind: 'RECEIVED' as const, account: from, units: value },
    })),
    ...funded.map(({ funder, amount, ...at }) => ({
      ...{ ...none, ...at, kind: 'FUNDED' as const, account: funder, units: amount },
    })),
    ...published.map(({ total, ...tree }) => ({
      ...none,
      ...tree,
      kind: 'PUBLISHED' as const,
      units: total,
    })),
    ...claimed.map(({ amount, ...claim }) => ({
      ...none,
      ...claim,
      kind: 'CLAIMED' as const,
      units: amount,
    })),
  ];
}

async function insertEvents(
  client: PoolClient,
  id: Uuid,
  events: readonly KeptEvent[],
  at: string,
): Promise<void> {
  const text = (value: bigint | null): string | null => (value === null ? null : String(value));
  await client.query(KEEP, [
    id,
    events.map(({ blockNumber }) => blockNumber),
    events.map(({ logIndex }) => logIndex),
    events.map(({ blockHash }) => blockHash.slice(2)),
    events.map(({ transactionHash }) => transactionHash.slice(2)),
    events.map(({ kind }) => kind),
    events.map(({ account }) => account),
    events.map(({ sequence }) => text(sequence)),
    events.map(({ root }) => root?.slice(2) ?? null),
    events.map(({ units }) => String(units)),
    events.map(({ cumulative }) => text(cumulative)),
    at,
  ]);
}

async function blockAt(provider: Provider, number: number): Promise<BlockRef> {
  const block = await provider.getBlock(number).catch((error: unknown) => {
    throw chainFailure(error);
  });
  if (block?.hash === null || block?.hash === undefined) {
    throw new PatchbayError('CHAIN_UNREACHABLE', `The node does not know block ${number}.`);
  }
  return { number, hash: block.hash };
}

/** What was read as final is still there; otherwise nothing that was read can be relied on. */
async function requireSameBlock(provider: Provider, number: number, hash: string): Promise<void> {
  const { hash: found } = await blockAt(provider, number);
  if (found === hash) return;
  throw new PatchbayError('CHAIN_FINALITY_BROKEN', `Block ${number} was final and is another one now.`, {
    meta: { block: number, expected: hash, found },
  });
}

function bytesOf(hash: string): Buffer {
  return Buffer.from(hash.slice(2), 'hex');
}
