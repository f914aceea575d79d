import type { Provider } from 'ethers';
import type { PoolClient } from 'pg';
import type { EventPlace } from '../../chain/call.ts';
import { RoyaltyDistributor } from '../../chain/royalty-distributor.ts';
import { Token } from '../../chain/token.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { Distributor } from './types.ts';

/** An event as it is kept. */
export interface KeptEvent extends EventPlace {
  readonly kind: 'RECEIVED' | 'FUNDED' | 'PUBLISHED' | 'CLAIMED';
  readonly account: string | null;
  readonly sequence: bigint | null;
  readonly root: string | null;
  readonly units: bigint;
  readonly cumulative: bigint | null;
}

const KEEP = `
INSERT INTO payout_chain_event (distributor_id, block_number, log_index, block_hash, transaction_hash, kind, account,
  sequence, root, units, cumulative, seen_at)
SELECT $1, e.block, e.log, decode(e.hash, 'hex'), decode(e.transaction, 'hex'), e.kind, e.account, e.sequence,
       decode(e.root, 'hex'), e.units, e.cumulative, $12
FROM unnest($2::bigint[], $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[],
  $10::numeric[], $11::numeric[]) AS e(block, log, hash, transaction, kind, account, sequence, root, units, cumulative)`;

/** Asks a node for what has happened at a distributor in a range of blocks. */
export async function readEvents(
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

/** Keeps events, each for the first time. */
export async function insertEvents(
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
