import { z } from 'zod';
import type { ErrorCode } from '../../kernel/codes.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import type { Connection } from '../connection.ts';
import { request } from '../graphql-client.ts';

/** What `patchbay bundle` asks for; a test checks what is there against the schema. */
export const RECEIPTS = `query BundleReceipts($adapterVersion: ID, $first: Int, $after: String) {
  receipts(adapterVersion: $adapterVersion, first: $first, after: $after) {
    edges { cursor node { receipt { document } } }
    pageInfo { hasNextPage }
  }
}`;

export const EPOCHS = `query BundleEpochs($first: Int, $after: String) {
  epochs(first: $first, after: $after) {
    edges { cursor node { number document } }
    pageInfo { hasNextPage }
  }
}`;

export const STATEMENT = `query BundleStatement($number: BigInt!, $adapterVersion: ID) {
  epochStatement(number: $number, adapterVersion: $adapterVersion) { document }
}`;

export const CLAIM = `query BundleClaim($account: String) {
  payoutClaim(account: $account) { document otherAccounts }
}`;

const pageInfo = z.looseObject({ hasNextPage: z.boolean() });
const cursor = z.string().max(1_000);
const document = z.looseObject({ document: z.string() });

const receipts = z.looseObject({
  receipts: z.looseObject({
    edges: z.array(z.looseObject({ cursor, node: z.looseObject({ receipt: document }) })),
    pageInfo,
  }),
});
const epochs = z.looseObject({
  epochs: z.looseObject({
    edges: z.array(
      z.looseObject({
        cursor,
        node: z.looseObject({ number: z.string().regex(/^[1-9][0-9]{0,19}$/), document: z.string() }),
      }),
    ),
    pageInfo,
  }),
});
const statement = z.looseObject({ epochStatement: document.nullable() });
const claimed = z.looseObject({
  document: z.string().nullable(),
  otherAccounts: z.array(z.string().max(100)).max(1_000),
});
const claim = z.looseObject({ payoutClaim: claimed.nullable() });

/** Some items, and where the next ones begin; null when there are no more. */
export interface Page<T> {
  readonly items: readonly T[];
  readonly after: string | null;
}

/** Receipts have kilobytes each; a page of these stays small. */
const PAGE = 50;

export async function receiptPage(
  connection: Connection,
  adapterVersion: string | null,
  after: string | null,
): Promise<Page<string>> {
  const variables = { adapterVersion, first: PAGE, after };
  const { edges, pageInfo: page } = (await request(connection, RECEIPTS, variables, receipts)).receipts;
  return {
    items: edges.map(({ node }) => node.receipt.document),
    after: page.hasNextPage ? (edges.at(-1)?.cursor ?? null) : null,
  };
}

export type EpochPage = Page<{ readonly number: bigint; readonly document: string }>;

export async function epochPage(connection: Connection, after: string | null): Promise<EpochPage> {
  const { edges, pageInfo: page } = (await request(connection, EPOCHS, { first: PAGE, after }, epochs))
    .epochs;
  return {
    items: edges.map(({ node }) => ({ number: BigInt(node.number), document: node.document })),
    after: page.hasNextPage ? (edges.at(-1)?.cursor ?? null) : null,
  };
}

export async function statementOf(
  connection: Connection,
  number: bigint,
  adapterVersion: string | null,
): Promise<string | null> {
  const variables = { number: String(number), adapterVersion };
  return (await request(connection, STATEMENT, variables, statement)).epochStatement?.document ?? null;
}

/** The claim for an account; null: the one that was paid to last. */
export async function claimOf(
  connection: Connection,
  account: string | null,
): Promise<z.infer<typeof claimed> | null> {
  return (await request(connection, CLAIM, { account }, claim)).payoutClaim;
}

/** Why a deployment does not have something. */
export interface Absent {
  readonly absent: string;
}

/** Errors that say that a deployment does not have something, not that something went wrong. */
const NOT_THERE: ReadonlySet<ErrorCode> = new Set(['PROOFS_DISABLED', 'GRAPHQL_INVALID', 'NOT_FOUND']);

/** What the question answers, or the reason why the deployment does not have it. */
export async function ifThere<T>(
  question: () => Promise<T>,
  refusals: ReadonlySet<ErrorCode> = new Set(),
): Promise<T | Absent> {
  try {
    return await question();
  } catch (error) {
    if (!(error instanceof PatchbayError)) throw error;
    if (!NOT_THERE.has(error.code) && !refusals.has(error.code)) throw error;
    return { absent: error.message };
  }
}

/** Whether an answer of {@link ifThere} is a reason. */
export function isAbsent<T>(answer: T | Absent): answer is Absent {
  return typeof answer === 'object' && answer !== null && 'absent' in answer;
}
