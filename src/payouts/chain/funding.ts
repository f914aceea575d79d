import { z } from 'zod';
import type { Actor } from '../../auth/principal.ts';
import { chainFailure } from '../../chain/failure.ts';
import { RoyaltyDistributor } from '../../chain/royalty-distributor.ts';
import { Token } from '../../chain/token.ts';
import type { Tx } from '../../db/client.ts';
import { hashRequest, runIdempotent } from '../../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../../db/platform.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { newId, type Uuid } from '../../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../../tenant/audit.ts';
import { operatorKey } from '../operator.ts';
import type { Distributors } from './distributors.ts';
import { readFollowed } from './followed.ts';
import { type FundingProgress, fundingProgress, fundingPurposes, nextOrder } from './funding-steps.ts';
import { lastTree, type Query } from './tree-store.ts';
import type { ChainDeps, Distributor, TransactionState, TransactionStatus } from './types.ts';

/** What an operator wants to be paid in. */
export interface FundInput {
  readonly idempotencyKey: string;
  /** In the token's smallest unit; null for exactly what is missing. */
  readonly units: bigint | null;
}

/** What the publishing account was told to pay in. */
export interface Funding {
  readonly id: Uuid;
  readonly units: bigint;
  readonly createdAt: Date;
  /** Of the transaction that pays in; what it waits for is queued. */
  readonly state: TransactionState;
  readonly transaction: string | null;
  /** What is in its way, or why it was refused. */
  readonly problem: string | null;
}

interface FundingRow {
  readonly id: Uuid;
  readonly units: string;
  readonly clears_allowance: boolean;
  readonly created_at: Date;
}

const answer = z.object({ fundingId: z.string() });
const UNITS_END = 2n ** 255n;
const COLUMNS = 'f.id, f.units::text, f.clears_allowance, f.created_at';
const LAST = `SELECT ${COLUMNS} FROM payout_funding f WHERE f.distributor_id = $1 ORDER BY f.id DESC LIMIT 1`;
const ONE = `SELECT ${COLUMNS} FROM payout_funding f WHERE f.id = $1`;

/** Pays tokens of the publishing account into the distributor. For operators. */
export class FundingService {
  readonly #deps: ChainDeps & { readonly distributors: Distributors };

  constructor(deps: ChainDeps & { readonly distributors: Distributors }) {
    this.#deps = deps;
  }

  /**
   * Orders what is missing, or an amount, to be paid in, once for each key; answers how far it has come. One is paid in after
   * the other, because what is missing is not known while another one is on its way.
   */
  async fund(actor: Actor, input: FundInput, context: RequestContext = {}): Promise<Funding> {
    const { clock, database, distributors } = this.#deps;
    const action = {
      ...{ actor, action: 'payouts.fund', targetType: 'payoutFunding', targetId: null, context },
    };
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    requireUnits(input.units);
    const distributor = await distributors.require();
    // Before the transaction, which a slow node must not hold open; whatever it says, a repeated request gets its answer.
    const looked = await this.#look(distributor, input.units);
    const request = {
      scope: { tenantId: PLATFORM_TENANT_ID, actor: actor.kind },
      operation: 'fundPayouts',
      key: input.idempotencyKey,
      requestHash: hashRequest({ units: input.units === null ? null : String(input.units) }),
    };
    const { value } = await database.withSystem((tx) =>
      runIdempotent(request, tx, { codec: answer, clock }, async () => {
        if ('failure' in looked) throw looked.failure;
        await lockFundings(tx, distributor.id);
        if ((await this.#last(distributor))?.id !== looked.lastId) throw isOpen(looked.units, 'QUEUED');
        const id = newId(clock);
        const units = String(looked.units);
        await tx.payoutFunding.createMany({
          data: {
            ...{ id, distributorId: distributor.id, units, clearsAllowance: looked.clears },
            ...{ requestedBy: operatorKey(actor), createdAt: new Date(clock.nowMs()) },
          },
        });
        const after = { units, token: distributor.token, distributor: distributor.distributor };
        await recordAudit(tx, clock, { ...action, targetId: id, tenantId: PLATFORM_TENANT_ID, after });
        return { fundingId: id };
      }),
    );
    const [row] = await database.querySystem<FundingRow>(ONE, [value.fundingId]);
    if (row === undefined) throw new Error('What was told is stored.');
    await this.#advance(distributor, row);
    return this.#toFunding(row);
  }

  /** Goes on with what was told last: everything before it is at its end. */
  async carryOut(): Promise<void> {
    const distributor = await this.#deps.distributors.known();
    if (distributor === null) return;
    const last = await this.#last(distributor);
    if (last !== undefined) await this.#advance(distributor, last);
  }

  /** Orders what comes next, for a purpose of its own, so that ordering it again changes nothing. */
  async #advance(distributor: Distributor, row: FundingRow): Promise<void> {
    const { chain, database, outbox } = this.#deps;
    const funding = { id: row.id, units: BigInt(row.units), clears: row.clears_allowance };
    const order = nextOrder(distributor, funding, await this.#progress(row.id), chain.account);
    if (order !== null) await database.withSystemPg((client) => outbox.enqueue(client, order));
  }

  async #progress(id: Uuid): Promise<FundingProgress> {
    return fundingProgress(id, await this.#deps.outbox.statesOf(fundingPurposes(id)));
  }

  /** What is to be paid in, and after which funding that was found out; or why nothing can be. */
  async #look(distributor: Distributor, wanted: bigint | null): Promise<Looked> {
    try {
      const last = await this.#last(distributor);
      if (last !== undefined) {
        const { state } = await this.#toFunding(last);
        if (state !== 'FINAL' && state !== 'REVERTED') throw isOpen(BigInt(last.units), state);
      }
      const units = wanted ?? (await this.#missing(distributor));
      return { units, lastId: last?.id, clears: await this.#requireHeld(distributor, units) };
    } catch (failure) {
      return { failure };
    }
  }

  async #last({ id }: Distributor): Promise<FundingRow | undefined> {
    const [last] = await this.#deps.database.querySystem<FundingRow>(LAST, [id]);
    return last;
  }

  /**
   * What the last tree owes in all, less what was claimed and what the distributor holds. Claims that are newer than the last
   * final block change both by the same, so they are looked for only to add them.
   */
  async #missing(distributor: Distributor): Promise<bigint> {
    const { chain, database } = this.#deps;
    const query: Query = (text, values) => database.querySystem(text, values);
    const last = await lastTree(query, distributor.id);
    const { block, claimed } = await readFollowed(query, distributor.id);
    const provider = await chain.provider();
    const newest = await provider.getBlockNumber().catch((error: unknown) => {
      throw chainFailure(error);
    });
    const contract = new RoyaltyDistributor(provider, distributor.distributor);
    const recent =
      newest > block ? (await contract.events({ fromBlock: block + 1, toBlock: newest })).claimed : [];
    const held = await new Token(provider, distributor.token).balanceOf(distributor.distributor, newest);
    const claimedSince = recent.reduce((sum, { amount }) => sum + amount, 0n);
    const missing = (last?.total ?? 0n) - claimed - claimedSince - held;
    if (missing > 0n) return missing;
    throw new PatchbayError('PAYOUT_FUNDED', 'The distributor holds everything that its last tree owes.', {
      meta: { held: String(held) },
    });
  }

  /** Whether the account, which has to hold as much, has allowed something before that was not used. */
  async #requireHeld({ distributor, token: address }: Distributor, units: bigint): Promise<boolean> {
    const { chain } = this.#deps;
    if (chain.account === null) {
      throw new PatchbayError('CHAIN_KEY', 'This server has no account on the chain to pay from.', {
        fix: 'Let a server with the publishing account’s key do it, or pay in from another wallet.',
      });
    }
    const token = new Token(await chain.provider(), address);
    const held = await token.balanceOf(chain.account);
    if (held >= units) return (await token.allowance(chain.account, distributor)) > 0n;
    throw new PatchbayError(
      'PAYOUT_TOKENS_MISSING',
      `${chain.account} holds ${held} units of the token, and ${units} are to be paid in.`,
      { field: 'units', meta: { account: chain.account, held: String(held), needed: String(units) } },
    );
  }

  async #toFunding({ id, units, created_at }: FundingRow): Promise<Funding> {
    const { allowances, paid } = await this.#progress(id);
    const last = allowances.at(-1);
    const allowed = last?.given ?? last?.cleared;
    const funding = { id, units: BigInt(units), createdAt: created_at };
    if (paid === undefined) {
      // Without the allowance nothing is paid in; that it was refused is the end.
      const state = last?.given?.state === 'REVERTED' ? 'REVERTED' : 'QUEUED';
      return { ...funding, state, transaction: null, problem: problemOf(allowed) };
    }
    const problem = allowed?.problem?.message ?? problemOf(paid);
    return { ...funding, state: paid.state, transaction: paid.included?.hash ?? null, problem };
  }
}

type Looked =
  | { readonly units: bigint; readonly lastId: Uuid | undefined; readonly clears: boolean }
  | { readonly failure: unknown };

function isOpen(units: bigint, state: TransactionState): PatchbayError {
  return new PatchbayError('PAYOUT_FUNDING_OPEN', `${units} units are being paid in.`, {
    meta: { units: String(units), state },
  });
}

/** Why a transaction does not go on, or was refused. */
export function problemOf(status: TransactionStatus | undefined): string | null {
  return (
    status?.problem?.message ?? (status?.state === 'REVERTED' ? (status.reason ?? 'It was refused.') : null)
  );
}

async function lockFundings(tx: Tx, id: Uuid): Promise<void> {
  await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended(${`patchbay.payouts.funding:${id}`}, 0))::text`;
}

function requireUnits(units: bigint | null): void {
  if (units === null || (units > 0n && units < UNITS_END)) return;
  throw new PatchbayError('BAD_INPUT', 'The amount is positive, in the token’s smallest unit.', {
    field: 'units',
  });
}
