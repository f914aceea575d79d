import { z } from 'zod';
import type { ErrorCode } from '../../kernel/codes.ts';
import type { Progress } from '../../observability/progress.ts';
import type { Connection } from '../connection.ts';
import { fetchLog } from './log.ts';
import {
  type Absent,
  claimOf,
  type EpochPage,
  epochPage,
  ifThere,
  isAbsent,
  receiptPage,
  statementOf,
} from './queries.ts';
import type { Workspace } from './workspace.ts';

/** What is collected. */
export interface Collection {
  readonly connection: Connection;
  /** Adapter versions of the caller; none: the caller's own requests. */
  readonly adapterVersions: readonly string[];
  /** The last epoch; null for the latest. */
  readonly epoch: bigint | null;
  /** A head that the caller kept, as it is in its file. */
  readonly head: string | null;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

const head = z.looseObject({ size: z.string().regex(/^[0-9]{1,20}$/) });
const receipt = z.looseObject({ inclusion: z.looseObject({ head }).nullable() });
const headDocument = z.looseObject({ head });

/** Collects everything into the workspace. Answers with what the deployment does not have. */
export async function collect(work: Workspace, collection: Collection): Promise<readonly string[]> {
  const { connection, progress } = collection;
  const notes: string[] = [];
  await work.write('keys.json', await fetchLog(connection, 'keys'));
  if (collection.head !== null) await work.write('kept.json', collection.head);
  const step = progress.start('Collecting');
  try {
    const sizes = await collectEpochs(work, collection, notes);
    await collectReceipts(work, collection, (count) => step.update(count, count));
    await collectClaims(work, connection, notes);
    await optional(work, 'chain.json', notes, 'chain', () => fetchLog(connection, 'chain'));
    // After everything else, so that no other head is later than this one.
    const latest = await ifThere(() => fetchLog(connection, 'head'));
    if (isAbsent(latest)) notes.push(`There is no head: ${latest.absent}`);
    else await collectProofs(work, collection, latest, [...sizes, ...work.heads()], notes);
    step.done();
    return notes;
  } catch (error) {
    step.fail();
    throw error;
  }
}

/** The caller's own requests, or the adapter versions that are named. */
function sourcesOf({ adapterVersions }: Collection): readonly (string | null)[] {
  return adapterVersions.length === 0 ? [null] : adapterVersions;
}

async function collectReceipts(
  work: Workspace,
  collection: Collection,
  onCount: (count: number) => void,
): Promise<void> {
  for (const [index, source] of sourcesOf(collection).entries()) {
    const name = String(index);
    const begun = work.receipts(name);
    if (begun !== undefined && begun.after === null) continue;
    let { count, after } = begun ?? { count: 0, after: null };
    do {
      collection.signal.throwIfAborted();
      const page = await receiptPage(collection.connection, source, after);
      const heads: string[] = [];
      for (const document of page.items) {
        await work.write(`receipts/${name}/${String(count).padStart(6, '0')}.json`, document);
        const size = receipt.safeParse(jsonOf(document)).data?.inclusion?.head.size;
        if (size !== undefined) heads.push(size);
        count += 1;
      }
      after = page.after;
      await work.note(name, { count, after }, heads);
      onCount(count);
    } while (after !== null);
  }
}

/**
 * Epochs and the caller's statements for them, before the receipts: what the last of them counts has to be among these, however
 * long they take. Answers with the sizes of their heads.
 */
async function collectEpochs(
  work: Workspace,
  collection: Collection,
  notes: string[],
): Promise<readonly string[]> {
  const { connection, signal } = collection;
  const last = work.lastEpoch() ?? collection.epoch;
  let newest = 0n;
  const sizes: string[] = [];
  let after: string | null = null;
  let statements = true;
  do {
    signal.throwIfAborted();
    const from: string | null = after;
    const page: EpochPage | Absent = await ifThere(() => epochPage(connection, from));
    if (isAbsent(page)) {
      notes.push(`There are no epochs: ${page.absent}`);
      break;
    }
    for (const { number, document } of page.items) {
      if (last !== null && number > last) continue;
      if (number > newest) newest = number;
      await work.write(`epochs/${number}.json`, document);
      const size = headDocument.safeParse(jsonOf(document)).data?.head.size;
      if (size !== undefined) sizes.push(size);
      if (statements) statements = await collectStatements(work, collection, number, notes);
    }
    after = page.after;
  } while (after !== null);
  if (work.lastEpoch() === null) await work.settle(newest);
  return sizes;
}

/** Whether the deployment has statements at all. */
async function collectStatements(
  work: Workspace,
  collection: Collection,
  number: bigint,
  notes: string[],
): Promise<boolean> {
  for (const [index, source] of sourcesOf(collection).entries()) {
    collection.signal.throwIfAborted();
    const name = `statements/${index}/${number}.json`;
    if (await work.has(name)) continue;
    const statement = await ifThere(() => statementOf(collection.connection, number, source));
    if (isAbsent(statement)) {
      notes.push(`There are no statements: ${statement.absent}`);
      return false;
    }
    if (statement === null) notes.push(`There is no statement for epoch ${number}.`);
    else await work.write(name, statement);
  }
  return true;
}

/** The caller's claim, and one for each other account that they were paid to. */
async function collectClaims(work: Workspace, connection: Connection, notes: string[]): Promise<void> {
  let others: readonly string[] = [];
  const write = async (name: string, account: string | null): Promise<void> =>
    optional(work, name, notes, account === null ? 'claim' : 'claim of another account', async () => {
      const found = await claimOf(connection, account);
      if (account === null) others = found?.otherAccounts ?? [];
      return found?.document ?? null;
    });
  await write('claim.json', null);
  for (const [index, account] of others.entries()) await write(`claims/${index}.json`, account);
}

async function optional(
  work: Workspace,
  name: string,
  notes: string[],
  what: string,
  question: () => Promise<string | null>,
): Promise<void> {
  const found = await ifThere(question);
  if (isAbsent(found)) notes.push(`There is no ${what}: ${found.absent}`);
  else if (found === null) notes.push(`There is no ${what}.`);
  else await work.write(name, found);
}

/** The latest head, and the proofs that every other one grew into it. */
async function collectProofs(
  work: Workspace,
  { connection, head: kept, signal }: Collection,
  latest: string,
  sizes: readonly string[],
  notes: string[],
): Promise<void> {
  await work.write('head.json', latest);
  const sizeOf = (document: string): string | undefined =>
    headDocument.safeParse(jsonOf(document)).data?.head.size;
  const second = sizeOf(latest);
  if (second === undefined) return;
  const keptSize = kept === null ? undefined : sizeOf(kept);
  for (const first of new Set([...(keptSize === undefined ? [] : [keptSize]), ...sizes])) {
    signal.throwIfAborted();
    if (first === second) continue;
    const question = (): Promise<string> => fetchLog(connection, 'proof/consistency', { first, second });
    const proof = await ifThere(question, REFUSED);
    if (!isAbsent(proof)) await work.write(`consistency/${first}-${second}.json`, proof);
    else
      notes.push(
        `The server gives no proof that its log of ${first} leaves became that of ${second}: ${proof.absent}`,
      );
  }
}

/** A log that was rewritten does not have the head that somebody kept; that is what the note is for. */
const REFUSED: ReadonlySet<ErrorCode> = new Set(['BAD_INPUT']);

/** What the server sent, or null when it is not JSON: the verifier is who judges it. */
function jsonOf(document: string): unknown {
  try {
    return JSON.parse(document);
  } catch {
    return null;
  }
}
