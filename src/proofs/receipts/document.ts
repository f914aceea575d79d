import type { Uuid } from '../../kernel/ids.ts';
import { hex } from '../log/documents.ts';
import { fieldName } from './fields.ts';

/** A field that its reader may open. */
export interface OpenedField {
  readonly index: number;
  readonly salt: Uint8Array;
  readonly text: string;
}

/** Everything that one party's receipt is made of. */
export interface ReceiptView {
  readonly logId: Uint8Array;
  readonly requestId: Uuid;
  /** One after the other. */
  readonly commitments: Uint8Array;
  /** In ascending order. */
  readonly opened: readonly OpenedField[];
  readonly batch: {
    readonly size: number;
    readonly index: number;
    /** Hashes one after the other, from the leaf up. */
    readonly path: Uint8Array;
    readonly signedAt: number;
    readonly signature: string;
  };
  /** As `log/documents.ts` writes it; null until the log has the receipt. */
  readonly inclusion: object | null;
  /** Canonical JSON of the documents that the opened fields name. */
  readonly documents: readonly string[];
}

const NAMES_DOCUMENT = /\.(price|royaltyTerms|split)$/;

/** The digests of the documents that the fields name. */
export function namedDocuments(opened: readonly OpenedField[]): readonly string[] {
  return opened.flatMap(({ index, text }) =>
    text !== '' && NAMES_DOCUMENT.test(fieldName(index)) ? [text] : [],
  );
}

/** A receipt as it is handed out: the text of `patchbay-receipt/1`, which docs/reference/proofs.md specifies. */
export function receiptText(view: ReceiptView): string {
  const { batch } = view;
  const document = {
    format: 'patchbay-receipt/1',
    log: hex(view.logId),
    id: view.requestId,
    commitments: hashes(view.commitments),
    opened: view.opened.map(({ index, salt, text }) => ({
      index,
      name: fieldName(index),
      salt: hex(salt),
      value: text,
    })),
    batch: {
      size: String(batch.size),
      index: String(batch.index),
      path: hashes(batch.path),
      signedAt: String(batch.signedAt),
      signature: batch.signature,
    },
    inclusion: view.inclusion,
  };
  // Documents are canonical already, and whoever checks their digests reads the same again.
  const text = JSON.stringify(document);
  return `${text.slice(0, -1)},"documents":[${view.documents.join(',')}]}`;
}

function hashes(bytes: Uint8Array): readonly string[] {
  return Array.from({ length: bytes.length / 32 }, (_, i) => hex(bytes.subarray(32 * i, 32 * i + 32)));
}
