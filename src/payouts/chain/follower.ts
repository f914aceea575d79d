import type { Provider } from 'ethers';
import { chainFailure } from '../../chain/failure.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { Completeness, type KeptSums, type Seen } from './completeness.ts';
import { insertEvents, type KeptEvent, readEvents } from './events.ts';
import { BlockRanges } from './ranges.ts';
import type { BlockRef, ChainDeps, Distributor } from './types.ts';

interface FollowRow {
  readonly block_number: string;
  readonly block_hash: Buffer;
  readonly opening: string;
  readonly balance: string;
  readonly received: string;
  readonly claimed: string;
  readonly published: string;
}

const WHERE_TO = `
SELECT f.block_number::text, f.block_hash, d.opening_units::text AS opening, f.balance_units::text AS balance,
       f.received_units::text AS received, f.claimed_units::text AS claimed, f.published::text
FROM payout_chain_follow f JOIN payout_distributor d ON d.id = f.distributor_id WHERE f.distributor_id = $1`;

const MOVE_ON = `
UPDATE payout_chain_follow SET block_number = $3, block_hash = $4, balance_units = $5, received_units = $6,
  claimed_units = $7, published = $8, followed_at = $9
WHERE distributor_id = $1 AND block_number = $2`;

/** Reads what the chain says of distributors, up to the newest final block, and keeps it. */
export class ChainFollower {
  readonly #ranges: BlockRanges;
  readonly #deps: Pick<ChainDeps, 'database' | 'clock' | 'chain'>;
  readonly #completeness: Completeness;

  constructor(
    options: { readonly blocksMax: number },
    dependencies: Pick<ChainDeps, 'database' | 'clock' | 'chain'>,
  ) {
    this.#ranges = new BlockRanges(options);
    this.#deps = dependencies;
    this.#completeness = new Completeness(dependencies);
  }

  /** Goes on where the last run, or another process, has stopped. */
  async run(distributor: Distributor): Promise<void> {
    const { chain, database } = this.#deps;
    const [row] = await database.querySystem<FollowRow>(WHERE_TO, [distributor.id]);
    if (row === undefined) throw new Error('A distributor that is stored is followed.');
    const behind = Number(row.block_number);
    const final = await chain.finalBlock();
    const provider = await chain.provider();
    await requireSameBlock(provider, behind, `0x${row.block_hash.toString('hex')}`);
    if (final === null || final.number <= behind) return;
    const events = await this.#read(provider, distributor, behind + 1, final.number);
    const seen = await this.#completeness.require(provider, distributor, sumsOf(row), final, events);
    await this.#keep(distributor.id, behind, final, events, seen);
  }

  /** All of it, because only at the newest block can it be told whether it is all. */
  async #read(
    provider: Provider,
    distributor: Distributor,
    first: number,
    last: number,
  ): Promise<readonly KeptEvent[]> {
    const events: KeptEvent[] = [];
    for (let from = first; from <= last; ) {
      const { to, value } = await this.#ranges.next(from, last, (start, end) =>
        readEvents(provider, distributor, start, end),
      );
      events.push(...value);
      from = to + 1;
    }
    return events;
  }

  /** Keeps the events behind a block, unless another process has done so. */
  async #keep(
    id: Uuid,
    behind: number,
    block: BlockRef,
    events: readonly KeptEvent[],
    seen: Seen,
  ): Promise<void> {
    const at = new Date(this.#deps.clock.nowMs()).toISOString();
    const { balance, received, claimed, published } = seen;
    await this.#deps.database.withSystemPg(async (client) => {
      const { rowCount } = await client.query(MOVE_ON, [
        ...[id, behind, block.number, Buffer.from(block.hash.slice(2), 'hex')],
        ...[String(balance), String(received), String(claimed), String(published), at],
      ]);
      if (rowCount === 1 && events.length > 0) await insertEvents(client, id, events, at);
    });
  }
}

function sumsOf(row: FollowRow): KeptSums {
  return {
    opening: BigInt(row.opening),
    balance: BigInt(row.balance),
    received: BigInt(row.received),
    claimed: BigInt(row.claimed),
    published: BigInt(row.published),
  };
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
