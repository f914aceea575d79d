import type { PoolClient } from 'pg';
import { type Principal, requireScope } from '../../auth/principal.ts';
import type { Database } from '../../db/client.ts';
import { badCursor, type Page, requirePageSize } from '../../db/page.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Uuid } from '../../kernel/ids.ts';
import { inclusionDocument } from '../log/documents.ts';
import type { LogService } from '../log/service.ts';
import type { Inclusion } from '../log/types.ts';
import { namedDocuments, type OpenedField, receiptText } from './document.ts';
import type { DocumentStore } from './document-store.ts';

/** A receipt as one of its parties sees it. */
export interface Receipt {
  readonly requestId: Uuid;
  /** Hash of its leaf in the log, hexadecimal. */
  readonly leaf: string;
  /** The document, as text. */
  readonly document: string;
}

/** A receipt with its number in a lane. */
export interface NumberedReceipt {
  readonly lane: number;
  readonly number: bigint;
  readonly receipt: Receipt;
}

/** What is read to make a receipt's document. */
interface ReceiptRow {
  readonly request_id: Uuid;
  readonly commitments: Buffer;
  readonly leaf: Buffer;
  readonly path: Buffer;
  readonly batch_index: number;
  readonly size: number;
  readonly signed_at: string;
  readonly signature: string;
  readonly fields: readonly number[];
  readonly salts: Buffer;
  readonly texts: readonly string[];
}

interface NumberRow extends ReceiptRow {
  readonly lane: number;
  readonly number: string;
}

const COLUMNS = `r.request_id, r.commitments, r.leaf, r.path, r.batch_index, b.size, b.signed_at, b.signature,
       v.fields, v.salts, v.texts`;

const FIND = `
SELECT ${COLUMNS}
FROM receipt_view v JOIN receipt r USING (request_id) JOIN receipt_batch b ON b.id = r.batch_id
WHERE v.request_id = $1`;

/** Receipts by the numbers of a subject: a tenant itself, or an adapter version that it owns. */
const NUMBERED = `
SELECT n.lane, n.number, ${COLUMNS}
FROM receipt_number n
JOIN receipt_view v ON v.request_id = n.request_id AND v.tenant_id = n.tenant_id
JOIN receipt r ON r.request_id = n.request_id
JOIN receipt_batch b ON b.id = r.batch_id
WHERE n.kind = $1 AND n.subject_id = $2 AND (n.lane, n.number) > ($3, $4)
ORDER BY n.lane, n.number LIMIT $5`;

const CURSOR = /^(\d{1,5}):(\d{1,19})$/;

/** What the service works with. */
export interface ReceiptServiceDeps {
  readonly database: Pick<Database, 'withTenantPg'>;
  readonly documents: DocumentStore;
  readonly log: LogService;
  readonly logId: Uint8Array;
}

/** Reads receipts as a party to them: the database shows no other's, and of each only what that party may open. */
export class ReceiptService {
  readonly #deps: ReceiptServiceDeps;

  constructor(dependencies: ReceiptServiceDeps) {
    this.#deps = dependencies;
  }

  /** The receipt of a request that the caller sent, or that ran on an adapter of the caller's; null when there is none. */
  async find(caller: Principal, requestId: Uuid): Promise<Receipt | null> {
    requireScope(caller, 'usage:read');
    const rows = await this.#read<ReceiptRow>(caller, FIND, [requestId]);
    const [receipt] = await this.#receipts(rows);
    return receipt ?? null;
  }

  /**
   * Receipts in the order of their numbers: of the caller's own requests, or of an adapter version of the caller's. A number
   * that is missing between two was left out, or its fields were erased.
   */
  async numbered(
    caller: Principal,
    versionId: Uuid | null,
    { first, after }: { readonly first: number; readonly after: string | null },
  ): Promise<Page<NumberedReceipt>> {
    requireScope(caller, 'usage:read');
    requirePageSize(first);
    const [, lane, number] = after === null ? ['', '-1', '0'] : (CURSOR.exec(after) ?? []);
    if (lane === undefined || number === undefined) throw badCursor();
    const values = [
      versionId === null ? 'tenant' : 'version',
      versionId ?? caller.tenantId,
      Number(lane),
      number,
      first + 1,
    ];
    const rows = await this.#read<NumberRow>(caller, NUMBERED, values);
    const page = rows.slice(0, first);
    const receipts = await this.#receipts(page);
    const items = page.flatMap((row, index) => {
      const receipt = receipts[index];
      return receipt === undefined ? [] : [{ lane: row.lane, number: BigInt(row.number), receipt }];
    });
    return { items, hasNextPage: rows.length > first };
  }

  #read<Row extends ReceiptRow>(caller: Principal, text: string, values: unknown[]): Promise<Row[]> {
    return this.#deps.database.withTenantPg(caller.tenantId, async (client: PoolClient) => {
      return (await client.query<Row>(text, values)).rows;
    });
  }

  async #receipts(rows: readonly ReceiptRow[]): Promise<readonly Receipt[]> {
    const { documents, log, logId } = this.#deps;
    const published = new Map<string, string>();
    const opened = rows.map(openedOf);
    const wanted = [...new Set(opened.flatMap(namedDocuments))].sort();
    for (const [index, text] of (await documents.published(wanted)).entries())
      published.set(wanted[index] ?? '', text);
    return Promise.all(
      rows.map(async (row, index) => {
        const fields = opened[index] ?? [];
        const inclusion = await inclusionOf(log, row.request_id);
        const document = receiptText({
          logId,
          requestId: row.request_id,
          commitments: row.commitments,
          opened: fields,
          batch: {
            size: row.size,
            index: row.batch_index,
            path: row.path,
            signedAt: Number(row.signed_at),
            signature: row.signature,
          },
          inclusion: inclusion === null ? null : inclusionDocument(inclusion),
          documents: [...new Set(namedDocuments(fields))].flatMap((digest) => published.get(digest) ?? []),
        });
        return { requestId: row.request_id, leaf: row.leaf.toString('hex'), document };
      }),
    );
  }
}

function openedOf({ fields, salts, texts }: ReceiptRow): readonly OpenedField[] {
  return fields.map((index, place) => ({
    index,
    salt: salts.subarray(32 * place, 32 * place + 32),
    text: texts[place] ?? '',
  }));
}

/** Null for a receipt that the log does not have yet. */
async function inclusionOf(log: LogService, entryId: Uuid): Promise<Inclusion | null> {
  try {
    return await log.inclusion({ kind: 'entry', entryId }, null);
  } catch (error) {
    if (error instanceof PatchbayError && error.code === 'NOT_FOUND') return null;
    throw error;
  }
}
