import type { Database } from '../../db/client.ts';
import { SQLSTATE, sqlState } from '../../db/errors.ts';
import type { Clock } from '../../kernel/clock.ts';
import { newId, type Uuid } from '../../kernel/ids.ts';
import { hex } from '../log/documents.ts';
import type { DigestSigner } from '../log/types.ts';
import { leafHash } from '../merkle/hash.ts';
import { LeafReader } from '../merkle/memory.ts';
import { inclusionPath, rootOf } from '../merkle/prove.ts';
import { batchDigest } from '../typed.ts';
import { commitField, receiptBody, SALT_BYTES } from './commit.ts';
import type { OpenedField, ReceiptView } from './document.ts';
import type { DocumentStore } from './document-store.ts';
import { readFacts, type Wanted } from './facts.ts';
import { type Field, fieldsOf, type ReceiptFacts } from './fields.ts';

/** How receipts are issued. */
export interface IssuerOptions {
  /** The log of the deployment. */
  readonly logId: Uint8Array;
  /** Most receipts of one batch. */
  readonly batchMax: number;
  /** After this long a request whose own process has not asked for its receipt gets it from any: that process was lost. */
  readonly lostAfterMs: number;
}

/** What an issuer works with. */
export interface IssuerDeps {
  readonly database: Pick<Database, 'querySystem'>;
  readonly clock: Clock;
  readonly signer: DigestSigner;
  readonly documents: DocumentStore;
  readonly randomBytes: (size: number) => Buffer;
}

// One statement is a transaction, and half of what two cost. A receipt's id is the key of its row, so that of two issuers who
// take the same requests one writes nothing.
const WRITE = {
  name: 'receipts_write',
  text: `
WITH batch AS (
  INSERT INTO receipt_batch (id, root, size, signed_at, signer, signature) VALUES ($1, $2, $3, $4, $5, $6)
), issued AS (
  INSERT INTO receipt (request_id, batch_id, batch_index, path, commitments, leaf)
  SELECT r.id, $1, r.place - 1, r.path, r.commitments, r.leaf
  FROM unnest($7::uuid[], $8::bytea[], $9::bytea[], $10::bytea[])
         WITH ORDINALITY AS r(id, path, commitments, leaf, place)
), viewed AS (
  INSERT INTO receipt_view (request_id, tenant_id, fields, salts, texts)
  SELECT v.request_id, v.tenant_id, v.fields, decode(v.salts, 'hex'), v.texts
  FROM jsonb_to_recordset($11::jsonb) AS v(request_id uuid, tenant_id uuid, fields smallint[], salts text, texts text[])
), numbered AS (
  INSERT INTO receipt_number (tenant_id, kind, subject_id, lane, number, request_id)
  SELECT * FROM unnest($12::uuid[], $13::text[], $14::uuid[], $15::smallint[], $16::bigint[], $17::uuid[])
), queued AS (
  INSERT INTO log_queue (entry_id, leaf_hash) SELECT * FROM unnest($7::uuid[], $10::bytea[])
)
DELETE FROM receipt_pending WHERE request_id = ANY ($7::uuid[])`,
};

/** A receipt that was just signed. */
export interface IssuedReceipt {
  readonly requestId: Uuid;
  readonly tenantId: Uuid;
  /** What the tenant that asked may see of it. */
  view(documents: readonly string[]): ReceiptView;
  readonly opened: readonly OpenedField[];
}

/** A receipt about to be signed. */
interface Draft {
  readonly facts: ReceiptFacts;
  readonly fields: readonly Field[];
  readonly salts: readonly Buffer[];
  readonly commitments: Buffer;
  readonly leaf: Buffer;
}

/**
 * Makes receipts of settled requests: commits to their fields, signs many at once, puts their leaves up for the log and keeps
 * what each party may open. Any number of issuers may run at once; each takes those of its own process, and what a lost one
 * leaves is taken by any.
 */
export class ReceiptIssuer {
  readonly #options: IssuerOptions;
  readonly #deps: IssuerDeps;

  constructor(options: IssuerOptions, dependencies: IssuerDeps) {
    this.#options = options;
    this.#deps = dependencies;
  }

  /** Most receipts that one call issues. */
  get batchMax(): number {
    return this.#options.batchMax;
  }

  /** Issues one batch of these requests, at most {@link batchMax}; those that have receipts already are left out. */
  async issue(requestIds: readonly Uuid[]): Promise<readonly IssuedReceipt[]> {
    return (await this.#issue({ requestIds })) ?? (await this.#issue({ requestIds })) ?? [];
  }

  /** Issues one batch of requests whose own process has not done so in time, and says how many. */
  async issueLost(): Promise<number> {
    const { batchMax, lostAfterMs } = this.#options;
    const issued = await this.#issue({ olderThanMs: lostAfterMs, most: batchMax });
    return issued?.length ?? 0;
  }

  /** Null when another issuer was faster with one of them: then nothing was issued here. */
  async #issue(wanted: Wanted): Promise<readonly IssuedReceipt[] | null> {
    const facts = await readFacts(this.#deps.database, wanted, this.#deps.documents);
    if (facts.length === 0) return [];
    try {
      return await this.#write(facts.map((each) => this.#draft(each)));
    } catch (error) {
      if (sqlState(error) === SQLSTATE.uniqueViolation) return null;
      throw error;
    }
  }

  #draft(facts: ReceiptFacts): Draft {
    const fields = fieldsOf(facts);
    const random = this.#deps.randomBytes(fields.length * SALT_BYTES);
    const salts = fields.map((_, index) => random.subarray(index * SALT_BYTES, (index + 1) * SALT_BYTES));
    const commitments = Buffer.concat(
      fields.map(({ text }, index) => commitField(index, salts[index] ?? Buffer.alloc(0), text)),
    );
    const body = receiptBody(this.#options.logId, facts.requestId, commitments);
    const leaf = Buffer.from(leafHash(body));
    return { facts, fields, salts, commitments, leaf };
  }

  async #write(drafts: readonly Draft[]): Promise<readonly IssuedReceipt[]> {
    const { clock, database, signer } = this.#deps;
    const size = drafts.length;
    const tree = new LeafReader(drafts.map(({ leaf }) => leaf));
    const batch = { root: Buffer.from(await rootOf(tree, size)), size, signedAt: clock.nowMs() };
    const paths = (await Promise.all(drafts.map((_, index) => inclusionPath(tree, index, size)))).map(
      (path) => Buffer.concat(path),
    );
    const signature = await signer.sign(batchDigest(this.#options.logId, batch));
    const batchId = newId(clock);
    const numbers = drafts.flatMap(numberRows);
    const values = [
      ...[batchId, batch.root, batch.size, batch.signedAt, signer.address, signature],
      drafts.map(({ facts }) => facts.requestId),
      paths,
      drafts.map(({ commitments }) => commitments),
      drafts.map(({ leaf }) => leaf),
      JSON.stringify(drafts.flatMap(viewRows)),
      numbers.map(({ tenantId }) => tenantId),
      numbers.map(({ kind }) => kind),
      numbers.map(({ subjectId }) => subjectId),
      numbers.map(({ counter }) => counter.lane),
      numbers.map(({ counter }) => counter.number.toString()),
      numbers.map(({ requestId }) => requestId),
    ];
    await database.querySystem(WRITE.text, values, WRITE.name);
    const { logId } = this.#options;
    return drafts.map((draft, index) => {
      const { requestId, tenantId } = draft.facts;
      const opened = openedBy(draft, tenantId);
      const place = {
        size,
        index,
        path: paths[index] ?? Buffer.alloc(0),
        signedAt: batch.signedAt,
        signature,
      };
      return {
        requestId,
        tenantId,
        opened,
        view: (documents) => ({
          ...{ logId, requestId, commitments: draft.commitments, opened, batch: place },
          ...{ inclusion: null, documents },
        }),
      };
    });
  }
}

/** The fields that a party may open. */
function openedBy({ fields, salts }: Draft, reader: Uuid): readonly OpenedField[] {
  return fields.flatMap(({ readers, text }, index) => {
    const salt = salts[index];
    return readers.has(reader) && salt !== undefined ? [{ index, salt, text }] : [];
  });
}

/** What each party may open. */
function viewRows(draft: Draft) {
  const readers = new Set(draft.fields.flatMap((field) => [...field.readers]));
  return [...readers].map((tenantId) => {
    const opened = openedBy(draft, tenantId);
    return {
      request_id: draft.facts.requestId,
      tenant_id: tenantId,
      fields: opened.map(({ index }) => index),
      salts: opened.map(({ salt }) => hex(salt)).join(''),
      texts: opened.map(({ text }) => text),
    };
  });
}

/** The numbers that the receipt has: the tenant's, and for each version its owner's. */
function numberRows({ facts }: Draft) {
  const { requestId, tenantId, counter } = facts;
  const ofVersions = facts.parts.flatMap(({ adapter }) =>
    adapter === null
      ? []
      : [
          {
            tenantId: adapter.ownerTenantId,
            kind: 'version',
            subjectId: adapter.versionId,
            counter: adapter.counter,
            requestId,
          },
        ],
  );
  return [{ tenantId, kind: 'tenant', subjectId: tenantId, counter, requestId }, ...ofVersions];
}
