import { type Actor, type Principal, requireOperatorScope, requireScope } from '../../auth/principal.ts';
import type { Database } from '../../db/client.ts';
import { badCursor, type Page, requirePageSize } from '../../db/page.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import type { Query } from '../log/store.ts';
import { accountKey } from './commit.ts';
import { type AccountNeighbour, statementText } from './documents.ts';
import { parsePlace } from './quarantine.ts';
import { accountPath } from './tree.ts';
import type { AccountKind, PublishedEpoch, QuarantineReason } from './types.ts';

/** A request that an epoch quarantined, for operators. */
export interface QuarantinedRequest {
  readonly requestId: Uuid;
  readonly reason: QuarantineReason;
  /** Hexadecimal; null for a leaf that was missing. */
  readonly leaf: string | null;
  readonly epoch: bigint;
  /** The epoch that released it; null while it is quarantined. */
  readonly releasedIn: bigint | null;
}

type EpochRow = {
  readonly number: string;
  readonly first_size: string;
  readonly size: string;
  readonly root: Buffer;
  readonly digest: Buffer;
  readonly previous: Buffer;
  readonly closed_at: Date;
  readonly receipts: string;
  readonly quarantined: number;
  readonly released: number;
};

// A leaf that was missing and has come is one of the range already.
const EPOCHS = `
SELECT e.number, e.first_size, e.size, e.root, e.digest, e.previous, e.closed_at, q.many AS quarantined,
       r.many AS released, (e.size - e.first_size - q.leaves + r.leaves)::text AS receipts
FROM epoch e
CROSS JOIN LATERAL (
  SELECT count(*)::integer AS many, count(q.leaf) AS leaves FROM epoch_quarantined q WHERE q.epoch = e.number) q
CROSS JOIN LATERAL (
  SELECT count(*)::integer AS many, count(q.leaf) AS leaves
  FROM epoch_released r
  JOIN epoch_quarantined q ON q.epoch = r.quarantined_in AND q.request_id = r.request_id
  WHERE r.epoch = e.number) r`;

const DOCUMENT = `
SELECT document FROM epoch WHERE $1::bigint IS NULL OR number = $1 ORDER BY number DESC LIMIT 1`;

const QUARANTINED = `
SELECT q.request_id, q.reason, encode(q.leaf, 'hex') AS leaf, q.epoch::text, r.epoch::text AS released_in
FROM epoch_quarantined q
LEFT JOIN epoch_released r ON r.quarantined_in = q.epoch AND r.request_id = q.request_id
WHERE (q.epoch, q.request_id) > ($1::bigint, $2::uuid)
ORDER BY q.epoch, q.request_id LIMIT $3`;

const STATEMENT = `
SELECT position, salt, account FROM epoch_statement WHERE epoch = $1 AND kind = $2 AND subject_id = $3`;

const OWNED = `
SELECT FROM adapter_version WHERE id = $1 AND tenant_id = patchbay.current_tenant()`;

/** The account of a key, and its neighbours. */
const AROUND = `
(SELECT position, key, commitment FROM epoch_account WHERE epoch = $1 AND key <= $2 ORDER BY key DESC LIMIT 1)
UNION ALL
(SELECT position, key, commitment FROM epoch_account WHERE epoch = $1 AND key > $2 ORDER BY key LIMIT 1)`;

const NUMBER = /^\d{1,19}$/;

/** What the service works with. */
export interface EpochServiceDeps {
  readonly database: Pick<Database, 'querySystem' | 'withTenantPg'>;
  readonly logId: Uint8Array;
}

/** Reads epochs, which are for everybody, and accounts, which are for their parties. */
export class EpochService {
  readonly #deps: EpochServiceDeps;
  readonly #query: Query;

  constructor(dependencies: EpochServiceDeps) {
    this.#deps = dependencies;
    this.#query = (text, values) => dependencies.database.querySystem(text, values);
  }

  /** An epoch, or the latest; null where there is none. */
  async find(number: bigint | null): Promise<PublishedEpoch | null> {
    const [row] = await this.#query<EpochRow>(
      `${EPOCHS} WHERE $1::bigint IS NULL OR e.number = $1 ORDER BY e.number DESC LIMIT 1`,
      [number === null ? null : requireNumber(number)],
    );
    return row === undefined ? null : toEpoch(row);
  }

  /** {@link find}, or `NOT_FOUND`. */
  async get(number: bigint | null): Promise<PublishedEpoch> {
    const epoch = await this.find(number);
    if (epoch !== null) return epoch;
    throw number === null ? noEpochs() : noEpoch(number);
  }

  /**
   * The document of an epoch, or of the latest: the text of `patchbay-epoch/1`. It may have megabytes.
   *
   * @throws PatchbayError `NOT_FOUND` where there is none
   */
  async document(number: bigint | null): Promise<string> {
    const [row] = await this.#query<{ readonly document: string }>(DOCUMENT, [
      number === null ? null : requireNumber(number),
    ]);
    if (row === undefined) throw number === null ? noEpochs() : noEpoch(number);
    return row.document;
  }

  /** Epochs in the order of their numbers. */
  async list({
    first,
    after,
  }: {
    readonly first: number;
    readonly after: string | null;
  }): Promise<Page<PublishedEpoch>> {
    requirePageSize(first);
    if (after !== null && !NUMBER.test(after)) throw badCursor();
    const rows = await this.#query<EpochRow>(
      `${EPOCHS} WHERE e.number > $1::bigint ORDER BY e.number LIMIT $2`,
      [after ?? '0', first + 1],
    );
    return { items: rows.slice(0, first).map(toEpoch), hasNextPage: rows.length > first };
  }

  /**
   * What an epoch says of the caller, or of an adapter version of the caller's, or the proof that it says nothing: the text of
   * `patchbay-statement/1`.
   */
  async statement(caller: Principal, number: bigint, versionId: Uuid | null): Promise<string> {
    requireScope(caller, 'usage:read');
    const kind: AccountKind = versionId === null ? 'tenant' : 'version';
    const subject = versionId ?? caller.tenantId;
    const own = await this.#deps.database.withTenantPg(caller.tenantId, async (client) => {
      const { rowCount } = versionId === null ? { rowCount: 1 } : await client.query(OWNED, [versionId]);
      if (rowCount !== 1) {
        throw new PatchbayError('NOT_FOUND', 'You own no such adapter version.', { field: 'adapterVersion' });
      }
      const values = [requireNumber(number), kind, subject];
      return (await client.query<StatementRow>(STATEMENT, values)).rows[0];
    });
    const { logId } = this.#deps;
    const size = await this.#accountsOf(number);
    const facts = { logId, epoch: number, kind, subject };
    const path = (position: number) => accountPath(this.#query, number, position, size);
    if (own !== undefined) {
      const { position, salt, account } = own;
      return statementText({
        ...facts,
        present: { salt, account, index: position, path: await path(position) },
      });
    }
    const key = accountKey(logId, number, kind, subject);
    const around = await this.#query<AroundRow>(AROUND, [number.toString(), key]);
    if (around.some((row) => row.key.equals(key))) {
      throw new PatchbayError('NOT_FOUND', 'What opens the account was erased.', {
        field: 'number',
        meta: { epoch: number.toString() },
      });
    }
    const neighbour = async (isBefore: boolean): Promise<AccountNeighbour | null> => {
      const row = around.find((one) => Buffer.compare(one.key, key) < 0 === isBefore);
      if (row === undefined) return null;
      const { position: index, key: own, commitment } = row;
      return { index, key: own, commitment, path: await path(index) };
    };
    return statementText({
      ...facts,
      absent: { before: await neighbour(true), after: await neighbour(false) },
    });
  }

  /** What epochs have quarantined, oldest first. For operators. */
  async quarantine(
    actor: Actor,
    { first, after }: { readonly first: number; readonly after: string | null },
  ): Promise<Page<QuarantinedRequest>> {
    requireOperatorScope(actor, 'usage:read');
    requirePageSize(first);
    const place = after === null ? FIRST_PLACE : parsePlace(after);
    if (place === null) throw badCursor();
    const rows = await this.#query<QuarantinedRow>(QUARANTINED, [place.epoch, place.requestId, first + 1]);
    const items = rows.slice(0, first).map(({ request_id, released_in, epoch, ...row }) => ({
      ...row,
      requestId: request_id,
      epoch: BigInt(epoch),
      releasedIn: released_in === null ? null : BigInt(released_in),
    }));
    return { items, hasNextPage: rows.length > first };
  }

  /** How many accounts an epoch has. */
  async #accountsOf(number: bigint): Promise<number> {
    const [row] = await this.#query<{ readonly size: number | null }>(
      `SELECT (SELECT max(a.position) + 1 FROM epoch_account a WHERE a.epoch = e.number) AS size
       FROM epoch e WHERE e.number = $1`,
      [requireNumber(number)],
    );
    if (row === undefined) throw noEpoch(number);
    return row.size ?? 0;
  }
}

const FIRST_PLACE = { epoch: '0', requestId: '00000000-0000-0000-0000-000000000000' };
const NUMBER_MAX = 2n ** 63n - 1n;

function requireNumber(number: bigint): string {
  if (number >= 1n && number <= NUMBER_MAX) return number.toString();
  throw new PatchbayError('BAD_INPUT', 'Epochs are numbered from 1.', { field: 'number' });
}

function noEpochs(): PatchbayError {
  return new PatchbayError('NOT_FOUND', 'No epoch was closed yet.', { fix: 'Ask again when one was.' });
}

function noEpoch(number: bigint): PatchbayError {
  return new PatchbayError('NOT_FOUND', `There is no epoch ${number}.`, {
    field: 'number',
    fix: 'Name an epoch that was closed, or none for the latest.',
    meta: { number: number.toString() },
  });
}

function toEpoch(row: EpochRow): PublishedEpoch {
  return {
    number: BigInt(row.number),
    firstSize: Number(row.first_size),
    size: Number(row.size),
    ...{ root: row.root, digest: row.digest, previous: row.previous, closedAt: row.closed_at },
    receipts: BigInt(row.receipts),
    ...{ quarantined: row.quarantined, released: row.released },
  };
}

type StatementRow = { readonly position: number; readonly salt: Buffer; readonly account: string };
type AroundRow = { readonly position: number; readonly key: Buffer; readonly commitment: Buffer };
type QuarantinedRow = {
  readonly request_id: Uuid;
  readonly reason: QuarantineReason;
  readonly leaf: string | null;
  readonly epoch: string;
  readonly released_in: string | null;
};
