import type { PoolClient } from 'pg';
import { readOwnArtifact } from '../../chain/artifact.ts';
import { verifyDeployedCode } from '../../chain/deploy.ts';
import { chainFailure } from '../../chain/failure.ts';
import { RoyaltyDistributor } from '../../chain/royalty-distributor.ts';
import { Token } from '../../chain/token.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { newId, type Uuid } from '../../kernel/ids.ts';
import type { BlockRef, ChainDeps, ChainPlace, Distributor } from './types.ts';

interface DistributorRow {
  readonly id: Uuid;
  readonly token: string;
  readonly decimals: number;
}

const READ = `
SELECT d.id, d.token, d.decimals FROM payout_distributor d WHERE d.chain_id = $1 AND d.address = $2`;

const USED = `
SELECT d.id, d.address, d.token, d.decimals FROM payout_distributor d
WHERE d.chain_id = $1 ORDER BY d.address = $2 DESC, d.id DESC`;

const ADD = `
WITH added AS (
  INSERT INTO payout_distributor (id, chain_id, address, token, decimals, opening_units, opening_block, created_at)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $9)
  ON CONFLICT (chain_id, address) DO NOTHING RETURNING id)
INSERT INTO payout_chain_follow (distributor_id, block_number, block_hash, balance_units, received_units, claimed_units,
  published, followed_at)
SELECT a.id, $7, $8, $6, 0, 0, 0, $9 FROM added a`;

/** The distributor of the configuration, and what is stored of it. */
export class Distributors {
  readonly place: ChainPlace;
  readonly #deps: Pick<ChainDeps, 'database' | 'clock' | 'chain'>;
  #known: Distributor | null = null;

  constructor(place: ChainPlace, deps: Pick<ChainDeps, 'database' | 'clock' | 'chain'>) {
    this.place = place;
    this.#deps = deps;
  }

  /** The distributor as it is stored; null before the chain was read for the first time. */
  async known(): Promise<Distributor | null> {
    if (this.#known !== null) return this.#known;
    const { chainId, distributor } = this.place;
    const [row] = await this.#deps.database.querySystem<DistributorRow>(READ, [String(chainId), distributor]);
    if (row === undefined) return null;
    if (row.token !== this.place.token) {
      throw new PatchbayError('CHAIN_CODE_DIFFERS', `The distributor pays in ${row.token}.`, {
        fix: `Set PATCHBAY_CHAIN_TOKEN to ${row.token}.`,
        meta: { distributor, token: row.token },
      });
    }
    this.#known = { ...this.place, id: row.id, decimals: row.decimals };
    return this.#known;
  }

  /**
   * Every distributor of the chain that was used, the one of the configuration first and then the newest: what earlier ones
   * promise can still be claimed.
   */
  async used(): Promise<readonly Distributor[]> {
    const { chainId, distributor } = this.place;
    const rows = await this.#deps.database.querySystem<DistributorRow & { readonly address: string }>(USED, [
      ...[String(chainId), distributor],
    ]);
    return rows.map(({ id, address, token, decimals }) => ({
      ...{ id, chainId, distributor: address, token, decimals },
    }));
  }

  /** The same as it is known, or PAYOUT_RAIL. */
  async require(): Promise<Distributor> {
    const known = await this.known();
    if (known !== null) return known;
    throw new PatchbayError('PAYOUT_RAIL', 'The distributor on the chain was not read yet.', {
      fix: 'Try again in some seconds; if it stays, the log says what is wrong with the chain.',
    });
  }

  /**
   * The distributor; read from the chain and stored when it is used for the first time. One that has trees already is somebody
   * else's, or this installation's before it lost its database: what they promise is not known here.
   */
  async open(): Promise<Distributor> {
    const known = await this.known();
    if (known !== null) return known;
    const { chain, clock, database } = this.#deps;
    const block = await chain.finalBlock();
    if (block === null) throw new PatchbayError('CHAIN_UNREACHABLE', 'The chain has no final block yet.');
    const { decimals, held } = await this.#read(block);
    const { chainId, distributor, token } = this.place;
    const at = new Date(clock.nowMs()).toISOString();
    await database.querySystem(ADD, [
      ...[newId(clock), String(chainId), distributor, token, decimals, String(held)],
      ...[block.number, Buffer.from(block.hash.slice(2), 'hex'), at],
    ]);
    return this.require();
  }

  async #read(block: BlockRef): Promise<{ readonly decimals: number; readonly held: bigint }> {
    const provider = await this.#deps.chain.provider();
    const { distributor: address, token: tokenAddress } = this.place;
    await verifyDeployedCode(provider, {
      address,
      artifact: await readOwnArtifact('RoyaltyDistributor'),
      immutables: { token: ['address', tokenAddress] },
    });
    const code = await provider.getCode(address, block.number).catch((error: unknown) => {
      throw chainFailure(error);
    });
    if (code === '0x') {
      throw new PatchbayError(
        'PAYOUT_RAIL',
        'The distributor was deployed a moment ago, and is not final yet.',
      );
    }
    const published = await new RoyaltyDistributor(provider, address).sequence(block.number);
    if (published !== 0n) {
      throw new PatchbayError(
        'CHAIN_DISTRIBUTOR_USED',
        `The distributor has ${published} trees that this installation does not know.`,
        { meta: { distributor: address, published: String(published) } },
      );
    }
    const token = new Token(provider, tokenAddress);
    const [decimals, held] = await Promise.all([token.decimals(), token.balanceOf(address, block.number)]);
    return { decimals, held };
  }
}

/** Locks a distributor: who adds a tree, or pays in, does it one after the other. */
export async function lockDistributor(client: PoolClient, id: Uuid): Promise<void> {
  await client.query(`SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, [
    `patchbay.payouts.chain:${id}`,
  ]);
}
