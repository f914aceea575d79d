import { type Actor, requireOperator } from '../auth/principal.ts';
import type { Database } from '../db/client.ts';
import type { ErrorCode } from '../kernel/codes.ts';
import type { Problem } from './outbox/types.ts';
import type { ChainSite } from './site.ts';

/** What is in the way, and since when. */
export interface ChainProblem extends Problem {
  readonly since: Date;
}

/** What operators are told of the chain, as of the last look at it. */
export interface ChainStatus {
  readonly chainId: bigint;
  readonly anchor: string | null;
  readonly distributor: string | null;
  readonly token: string | null;
  /** Who sends; null for a server without a key. */
  readonly account: string | null;
  /** In wei; null before the first look. */
  readonly balance: bigint | null;
  readonly blockNumber: number | null;
  readonly seenAt: Date | null;
  readonly queued: number;
  readonly sent: number;
  readonly included: number;
  /** The newest epoch that is anchored for good. */
  readonly lastAnchored: bigint | null;
  /** Closed epochs that are to be anchored and are not, for good. */
  readonly notAnchored: number;
  /** What is in the way; of several things the one that concerns most. */
  readonly problem: ChainProblem | null;
}

const STATUS = `
SELECT w.balance_wei::text AS balance, w.height::text, w.seen_at,
  (SELECT count(*)::int FROM chain_transaction t WHERE t.chain_id = $1 AND t.state = 'QUEUED') AS queued,
  (SELECT count(*)::int FROM chain_transaction t WHERE t.chain_id = $1 AND t.state = 'SIGNED') AS sent,
  (SELECT count(*)::int FROM chain_transaction t WHERE t.chain_id = $1 AND t.state = 'INCLUDED') AS included,
  (SELECT max(a.epoch)::text FROM epoch_anchor a
   WHERE a.chain_id = $1 AND a.contract = $3 AND a.state = 'ANCHORED') AS last_anchored,
  CASE WHEN $3::text IS NULL THEN 0 ELSE (
    SELECT count(*)::int FROM epoch e LEFT JOIN epoch_anchor a ON a.chain_id = $1 AND a.contract = $3 AND a.epoch = e.number
    WHERE a.state IS DISTINCT FROM 'ANCHORED' AND e.number >= coalesce(c.first_epoch, 0)) END AS not_anchored,
  p.problem_code, p.problem, p.problem_at
FROM (SELECT) one
LEFT JOIN chain_writer w ON w.chain_id = $1 AND w.account = $2
LEFT JOIN anchor_contract c ON c.chain_id = $1 AND c.address = $3
LEFT JOIN LATERAL (
  SELECT x.problem_code, x.problem, x.problem_at FROM (
    SELECT CASE WHEN c.problem_code IN ('CHAIN_ANCHOR_DIFFERS', 'CHAIN_FINALITY_BROKEN') THEN 0 ELSE 3 END AS place,
           c.problem_code, c.problem, c.problem_at
    UNION ALL SELECT 1, w.problem_code, w.problem, w.problem_at
    UNION ALL (SELECT 2, t.problem_code, t.problem, t.problem_at FROM chain_transaction t
      WHERE t.chain_id = $1 AND t.state IN ('QUEUED', 'SIGNED', 'INCLUDED') AND t.problem_code IS NOT NULL
      ORDER BY t.position LIMIT 1)) x
  WHERE x.problem_code IS NOT NULL ORDER BY x.place LIMIT 1) p ON true`;

type StatusRow = {
  readonly balance: string | null;
  readonly height: string | null;
  readonly seen_at: Date | null;
  readonly queued: number;
  readonly sent: number;
  readonly included: number;
  readonly last_anchored: string | null;
  readonly not_anchored: number;
  readonly problem_code: ErrorCode | null;
  readonly problem: string | null;
  readonly problem_at: Date | null;
};

/** Tells operators how things stand. It asks the database alone, so that it answers when the chain does not. */
export class ChainStatusService {
  readonly #site: ChainSite;
  readonly #account: string | null;
  readonly #database: Pick<Database, 'querySystem'>;

  constructor(
    options: { readonly site: ChainSite; readonly account: string | null },
    deps: { readonly database: Pick<Database, 'querySystem'> },
  ) {
    this.#site = options.site;
    this.#account = options.account;
    this.#database = deps.database;
  }

  /** How things stand. For operators. */
  async status(actor: Actor): Promise<ChainStatus> {
    requireOperator(actor);
    const { chainId, anchor, distributor, token } = this.#site;
    const [row] = await this.#database.querySystem<StatusRow>(STATUS, [
      String(chainId),
      this.#account,
      anchor,
    ]);
    if (row === undefined) throw new Error('A query without a condition has a row.');
    const { queued, sent, included, problem_code: code, problem: message, problem_at: since } = row;
    return {
      ...{ chainId, anchor, distributor, token, account: this.#account, queued, sent, included },
      balance: row.balance === null ? null : BigInt(row.balance),
      blockNumber: row.height === null ? null : Number(row.height),
      seenAt: row.seen_at,
      lastAnchored: row.last_anchored === null ? null : BigInt(row.last_anchored),
      notAnchored: row.not_anchored,
      problem: code === null || message === null || since === null ? null : { code, message, since },
    };
  }
}
