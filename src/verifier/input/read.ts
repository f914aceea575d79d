import { open } from 'node:fs/promises';
import { z } from 'zod';
import { shown } from '../shown.ts';
import { chain, claim } from './claims.ts';
import { epoch, statement } from './epochs.ts';
import { InputError } from './errors.ts';
import * as formats from './formats.ts';
import { parseJson } from './json.ts';
import { address } from './texts.ts';

/** A receipt of the most fields that there can be has less; anything larger is not read. */
export const MAX_FILE_BYTES = 8 * 1024 * 1024;

/** What is known by its bytes, and what messages call it. */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Reads a file that is not too large. */
export async function readFileBytes(path: string): Promise<NamedBytes> {
  const name = shown(path);
  try {
    const file = await open(path, 'r');
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw unreadable(name, 'is not a file', 'Name a file.');
      // Never more than one byte above the limit, whatever the file grows to meanwhile.
      const buffer = Buffer.alloc(Math.min(stat.size, MAX_FILE_BYTES) + 1);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
      return { name, bytes: buffer.subarray(0, bytesRead) };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw unreadable(name, 'cannot be read', 'Check the path and who may read it.');
  }
}

export const readReceipt = (source: NamedBytes): formats.Receipt => read(source, formats.receipt);

export const readKeyList = (source: NamedBytes): formats.KeyList => read(source, formats.keyList);

const headOrConsistency = z.discriminatedUnion('format', [formats.keptHead, formats.consistency]);

export const readHead = (source: NamedBytes): formats.KeptHead | formats.Consistency =>
  read(source, headOrConsistency);

const anyDocument = z.discriminatedUnion('format', [
  formats.receipt,
  formats.keyList,
  formats.keptHead,
  formats.consistency,
  epoch,
  statement,
  claim,
  chain,
]);

/** Any document that a bundle may have. */
export type ProofDocument = z.infer<typeof anyDocument>;

export const readDocument = (source: NamedBytes): ProofDocument => read(source, anyDocument);

/** Reads an address that the reader pins on the command line. */
export function readAddress(text: string): string {
  const found = address.safeParse(text);
  if (found.success) return found.data;
  throw new InputError(
    'PROOF_FORMAT',
    `${shown(text)} is not an address: ${found.error.issues[0]?.message}.`,
    'Give the address of a key, 0x and 40 hexadecimal digits.',
  );
}

export function read<T>({ name, bytes }: NamedBytes, schema: z.ZodType<T>): T {
  if (bytes.length > MAX_FILE_BYTES) {
    throw unreadable(name, `is larger than ${MAX_FILE_BYTES} bytes`, 'Give the file as it was handed out.');
  }
  const found = schema.safeParse(parseJson(bytes, name));
  if (found.success) return found.data;
  const [issue] = found.error.issues;
  if (issue === undefined) throw unreadable(name, 'cannot be checked', 'Give the file as it was handed out.');
  throw wrongFormat(name, issue);
}

function wrongFormat(name: string, issue: z.core.$ZodIssue): InputError {
  const where = issue.path.map(String).join('.');
  if (where === 'format') {
    return new InputError(
      'PROOF_FORMAT',
      `${name} is not a document that is expected here: its format is another or unknown.`,
      'Give a receipt or a bundle of documents, for --keys a key list (patchbay-keys/1), for --head a head (patchbay-head/1) or a consistency proof (patchbay-consistency/1), for --replay a disclosure (patchbay-disclosure/1).',
    );
  }
  const what =
    issue.code === 'unrecognized_keys'
      ? `has the unknown member ${issue.keys.slice(0, 3).map(shown).join(', ')}`
      : says(issue);
  return new InputError(
    'PROOF_FORMAT',
    `${name} is not of its format: ${where === '' ? 'the document' : shown(where)} ${what}.`,
    'Give the file as it was handed out; docs/reference/proofs.md says what it must look like.',
  );
}

/** What is wrong, in our own words or those of the schema; never text of the document. */
function says(issue: z.core.$ZodIssue): string {
  return issue.message.startsWith('must') ? issue.message : `is wrong (${issue.message})`;
}

function unreadable(name: string, what: string, fix: string): InputError {
  return new InputError('PROOF_UNREADABLE', `${name} ${what}.`, fix);
}
