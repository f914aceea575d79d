import type { PoolClient } from 'pg';
import type { Database } from '../../db/client.ts';
import { insertOrder, orderFacts } from './insert.ts';
import type { Move, Send } from './plan.ts';
import { OPEN_COLUMNS, type OpenRow, toOpen } from './rows.ts';
import type { SignedBytes } from './signer.ts';
import type { OpenTransaction, Problem } from './types.ts';

/** The right to send for an account, until it ends or somebody else is given it. */
export interface Lease {
  readonly account: string;
  readonly token: string;
  /** The highest block that was seen so far; null before the first look. */
  readonly height: number | null;
}

/** A nonce that was given to a transaction of ours. */
export interface GivenNonce {
  readonly nonce: number;
  /** A final block was seen in which it is used up. */
  readonly isOver: boolean;
}

/** Somebody else sends for the account now; what was to be written was not. */
export class LeaseLost extends Error {}

/** What a look at the chain showed. */
export interface Sight {
  readonly height: number;
  readonly balance: bigint;
}

/** Most queued transactions that are looked at in one run. */
const QUEUED_MAX = 64;

const TAKE = `
INSERT INTO chain_writer AS w (chain_id, account, token, held_until) VALUES ($1, $2, 1, $3)
ON CONFLICT (chain_id, account) DO UPDATE SET token = w.token + 1, held_until = EXCLUDED.held_until
WHERE w.held_until <= $4
RETURNING w.token::text, w.height::text`;

const END = `
UPDATE chain_writer SET
  held_until = $4, height = greatest(height, coalesce($5, height)), balance_wei = coalesce($6, balance_wei),
  seen_at = CASE WHEN $6::numeric IS NULL THEN seen_at ELSE $4 END,
  problem_at = CASE WHEN $7::text IS NULL THEN NULL WHEN problem_code = $7 AND problem = $8 THEN problem_at ELSE $4 END,
  problem_code = $7, problem = $8
WHERE chain_id = $1 AND account = $2 AND token = $3`;

const RENEW = `
UPDATE chain_writer SET held_until = $4 WHERE chain_id = $1 AND account = $2 AND token = $3 RETURNING token`;

const HOLDS = `SELECT FROM chain_writer WHERE chain_id = $1 AND account = $2 AND token = $3 FOR UPDATE`;

const SENT = `
${OPEN_COLUMNS} JOIN chain_nonce n ON n.transaction_id = t.id AND n.taken_by IS NULL
WHERE t.chain_id = $1 AND n.account = $2 AND t.state IN ('SIGNED', 'INCLUDED') ORDER BY n.nonce`;

const QUEUED = `
${OPEN_COLUMNS} LEFT JOIN chain_nonce n ON false
WHERE t.chain_id = $1 AND t.state = 'QUEUED' ORDER BY t.position LIMIT ${QUEUED_MAX}`;

const MOVES: Readonly<Record<Move['kind'], string>> = {
  INCLUDE: `
    UPDATE chain_transaction SET state = 'INCLUDED', hash = $3, block_number = $4, block_hash = $5, succeeded = $6,
      reason = $7, problem_code = NULL, problem = NULL, problem_at = NULL, changed_at = $2 WHERE id = $1`,
  TAKE_BACK: `
    UPDATE chain_transaction SET state = 'SIGNED', hash = NULL, block_number = NULL, block_hash = NULL, succeeded = NULL,
      reason = NULL, changed_at = $2 WHERE id = $1`,
  FINISH: `
    UPDATE chain_transaction SET state = CASE WHEN succeeded THEN 'FINAL' ELSE 'REVERTED' END, problem_code = NULL,
      problem = NULL, problem_at = NULL, changed_at = $2 WHERE id = $1`,
  LOSE: `UPDATE chain_transaction SET state = 'QUEUED', changed_at = $2 WHERE id = $1`,
};

const GIVE_UP_NONCE = `
UPDATE chain_nonce SET taken_by = $4 WHERE chain_id = $1 AND account = $2 AND nonce = $3 AND taken_by IS NULL`;

/** What senders keep in the database. Whatever one writes, it writes only while it holds the lease. */
export class SenderStore {
  readonly #chainId: string;
  readonly #database: Pick<Database, 'querySystem' | 'withSystemPg'>;

  constructor(chainId: bigint, database: Pick<Database, 'querySystem' | 'withSystemPg'>) {
    this.#chainId = String(chainId);
    this.#database = database;
  }

  /** The right to send for the account; null while another process has it. */
  async take(account: string, nowMs: number, leaseMs: number): Promise<Lease | null> {
    const [row] = await this.#database.querySystem<{
      readonly token: string;
      readonly height: string | null;
    }>(TAKE, [this.#chainId, account, iso(nowMs + leaseMs), iso(nowMs)]);
    if (row === undefined) return null;
    return { account, token: row.token, height: row.height === null ? null : Number(row.height) };
  }

  /**
   * Has the right for longer.
   * @throws LeaseLost when somebody else was given it.
   */
  async renew({ account, token }: Lease, nowMs: number, leaseMs: number): Promise<void> {
    const rows = await this.#database.querySystem(RENEW, [
      ...[this.#chainId, account, token, iso(nowMs + leaseMs)],
    ]);
    if (rows.length === 0) throw leaseLost();
  }

  /** Gives the right back, with what was seen and what is in the way. */
  async end(
    { account, token }: Lease,
    nowMs: number,
    sight: Sight | null,
    problem: Problem | null,
  ): Promise<void> {
    const seen = [sight?.height ?? null, sight === null ? null : String(sight.balance)];
    const trouble = [problem?.code ?? null, problem?.message ?? null];
    await this.#database.querySystem(END, [this.#chainId, account, token, iso(nowMs), ...seen, ...trouble]);
  }

  /** Accounts of which something that was signed is not at its end. */
  async accounts(): Promise<readonly string[]> {
    const rows = await this.#database.querySystem<{ readonly account: string }>(
      `SELECT DISTINCT n.account FROM chain_nonce n JOIN chain_transaction t ON t.id = n.transaction_id
       WHERE t.chain_id = $1 AND n.taken_by IS NULL AND t.state IN ('SIGNED', 'INCLUDED')`,
      [this.#chainId],
    );
    return rows.map(({ account }) => account);
  }

  /** What is on its way under the account, by nonce, and then, if it is wanted, what waits. */
  async open(account: string, withQueued: boolean): Promise<readonly OpenTransaction[]> {
    const sent = await this.#database.querySystem<OpenRow>(SENT, [this.#chainId, account]);
    const queued = withQueued ? await this.#database.querySystem<OpenRow>(QUEUED, [this.#chainId]) : [];
    return [...sent, ...queued].map(toOpen);
  }

  /** Nonces from one on that were given out, lowest first. */
  async given(account: string, from: number): Promise<readonly GivenNonce[]> {
    const rows = await this.#database.querySystem<{ readonly nonce: string; readonly over: boolean }>(
      `SELECT n.nonce::text, n.taken_by IS NOT NULL OR t.state IN ('FINAL', 'REVERTED') AS over
       FROM chain_nonce n JOIN chain_transaction t ON t.id = n.transaction_id
       WHERE n.chain_id = $1 AND n.account = $2 AND n.nonce >= $3 ORDER BY n.nonce`,
      [this.#chainId, account, from],
    );
    return rows.map(({ nonce, over }) => ({ nonce: Number(nonce), isOver: over }));
  }

  /**
   * Writes what was learnt.
   * @param reasons why transactions were refused, by id.
   */
  async move(
    lease: Lease,
    moves: readonly Move[],
    reasons: ReadonlyMap<string, string>,
    nowMs: number,
  ): Promise<void> {
    if (moves.length === 0) return;
    await this.#holding(lease, async (client) => {
      for (const move of moves) {
        if (move.kind === 'LOSE') {
          await client.query(GIVE_UP_NONCE, [this.#chainId, lease.account, move.nonce, move.takenBy]);
        }
        const facts =
          move.kind === 'INCLUDE'
            ? [move.hash, move.block.number, move.block.hash, move.succeeded, reasons.get(move.id) ?? null]
            : [];
        await client.query(MOVES[move.kind], [move.id, iso(nowMs), ...facts]);
      }
    });
  }

  /** Writes what was signed. Only then may it be sent. */
  async signed(
    lease: Lease,
    { transaction, isFill, nonce, number, gas, fees }: Extract<Send, { kind: 'SIGN' }>,
    { hash, raw }: SignedBytes,
    nowMs: number,
  ): Promise<void> {
    const at = [this.#chainId, lease.account, nonce];
    await this.#holding(lease, async (client) => {
      if (isFill) await insertOrder(client, transaction.id, orderFacts(this.#chainId, transaction), nowMs);
      if (transaction.state === 'QUEUED') {
        await client.query(
          `INSERT INTO chain_nonce (chain_id, account, nonce, transaction_id, gas) VALUES ($1, $2, $3, $4, $5)`,
          [...at, transaction.id, String(gas)],
        );
      }
      await client.query(
        `INSERT INTO chain_attempt
           (chain_id, account, nonce, number, hash, signed, max_fee_wei, priority_fee_wei, signed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
        [
          ...[...at, number, hash, Buffer.from(raw.slice(2), 'hex'), String(fees.maxFee)],
          ...[fees.priorityFee === null ? null : String(fees.priorityFee), iso(nowMs)],
        ],
      );
      if (transaction.state !== 'QUEUED') return;
      await client.query(`UPDATE chain_transaction SET state = 'SIGNED', changed_at = $2 WHERE id = $1`, [
        transaction.id,
        iso(nowMs),
      ]);
    });
  }

  /** Writes what is in the way of transactions, where that is something else than before. */
  async note(
    lease: Lease,
    open: readonly OpenTransaction[],
    problems: ReadonlyMap<string, Problem>,
    nowMs: number,
  ): Promise<void> {
    const changed = open.filter(({ id, problem }) => {
      const now = problems.get(id);
      return now?.code !== problem?.code || now?.message !== problem?.message;
    });
    if (changed.length === 0) return;
    await this.#holding(lease, async (client) => {
      for (const { id } of changed) {
        const { code = null, message = null } = problems.get(id) ?? {};
        await client.query(
          `UPDATE chain_transaction SET problem_code = $2, problem = $3, problem_at = $4
           WHERE id = $1 AND state IN ('QUEUED', 'SIGNED', 'INCLUDED')`,
          [id, code, message, code === null ? null : iso(nowMs)],
        );
      }
    });
  }

  async #holding(lease: Lease, work: (client: PoolClient) => Promise<void>): Promise<void> {
    await this.#database.withSystemPg(async (client) => {
      const { rowCount } = await client.query(HOLDS, [this.#chainId, lease.account, lease.token]);
      if (rowCount !== 1) throw leaseLost();
      await work(client);
    });
  }
}

function leaseLost(): LeaseLost {
  return new LeaseLost('Another process sends for the account.');
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
