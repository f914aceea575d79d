import { randomBytes } from 'node:crypto';
import { AbstractProvider, getAddress, hexlify, Network, toBeHex } from 'ethers';
import { ChainOutbox } from '../../../src/chain/outbox/outbox.ts';
import type { Database } from '../../../src/db/client.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import type { ClaimSigner } from '../../../src/payouts/chain/claims.ts';
import { openChainPayouts } from '../../../src/payouts/chain/open.ts';
import type { TestDatabase } from '../../kit/postgres.ts';

const CHAIN = 31_337n;
const HELD = 10n ** 12n;

/** A chain on which everybody holds the same, and nothing ever happens. */
class RichProvider extends AbstractProvider {
  constructor() {
    super(Network.from(CHAIN), { cacheTimeout: -1 });
  }

  override async _detectNetwork(): Promise<Network> {
    return Network.from(CHAIN);
  }

  override async call(): Promise<string> {
    return toBeHex(HELD, 32);
  }
}

const address = () => getAddress(hexlify(randomBytes(20)));

/** Payouts on a chain, of which everything is real but the chain. */
export function openStackChain(deps: {
  readonly database: Database;
  readonly clock: Clock;
  readonly signer: ClaimSigner;
}) {
  const place = { chainId: CHAIN, distributor: address(), token: address() };
  const provider = new RichProvider();
  const outbox = new ChainOutbox({ chainId: CHAIN }, deps);
  const chain = {
    account: address(),
    provider: async () => provider,
    finalBlock: async () => ({ number: 1, hash: `0x${'00'.repeat(32)}` }),
  };
  return { place, payouts: openChainPayouts(place, { ...deps, outbox, chain }) };
}

const FOUND = `
WITH d AS (
  INSERT INTO payout_distributor (id, chain_id, address, token, decimals, opening_units, opening_block, created_at)
  VALUES ($1, $2, $3, $4, 6, 0, 1, now()) RETURNING id)
INSERT INTO payout_chain_follow (distributor_id, block_number, block_hash, balance_units, received_units, claimed_units,
  published, followed_at)
SELECT id, 1, decode(repeat('00', 32), 'hex'), 0, 0, 0, 0, now() FROM d`;
const PUBLISHED = `
WITH followed AS (
  UPDATE payout_chain_follow f
  SET published = (SELECT max(t.sequence) FROM payout_tree t WHERE t.distributor_id = f.distributor_id))
INSERT INTO payout_chain_event (distributor_id, block_number, log_index, block_hash, transaction_hash, kind, sequence, root,
  units, seen_at)
SELECT t.distributor_id, 2, t.sequence, t.order_sha256, t.order_sha256, 'PUBLISHED', t.sequence, t.root, t.total_units, now()
FROM payout_tree t`;

/** As if the distributor had been read from the chain. */
export async function findDistributor(
  db: TestDatabase,
  { chainId, distributor, token }: ReturnType<typeof openStackChain>['place'],
  clock: Clock,
): Promise<void> {
  await db.admin(FOUND, [newId(clock), String(chainId), distributor, token]);
}

/** As if all trees had been published. */
export async function publishTrees(db: TestDatabase): Promise<void> {
  await db.admin(PUBLISHED);
}
