import type { Uuid } from '../../kernel/ids.ts';
import type { Query } from '../log/store.ts';
import { type Account, type Accounts, addTo, royaltiesOf } from './accounts.ts';
import { EARNED } from './earned.ts';
import type { AccountKind } from './types.ts';

// Parties are looked for by what is left of a request: numbers have no index by requests alone, because settling would pay
// for it.
const NUMBERS = `
WITH party AS (
  SELECT id AS request_id, tenant_id FROM usage_record WHERE id = ANY ($1::uuid[])
  UNION
  SELECT request_id, owner_tenant_id FROM usage_share WHERE request_id = ANY ($1::uuid[])
  UNION
  SELECT request_id, tenant_id FROM receipt_view WHERE request_id = ANY ($1::uuid[])
), numbered AS (
  SELECT n.kind, n.subject_id, n.tenant_id, n.lane, n.number, v.request_id IS NOT NULL AS openable,
         n.number - row_number() OVER (PARTITION BY n.kind, n.subject_id, n.lane ORDER BY n.number) AS island
  FROM party p
  CROSS JOIN LATERAL (
    SELECT * FROM receipt_number n
    WHERE n.tenant_id = p.tenant_id AND n.kind IN ('tenant', 'version') AND n.request_id = p.request_id OFFSET 0) n
  LEFT JOIN receipt_view v ON v.request_id = n.request_id AND v.tenant_id = n.tenant_id
    AND v.request_id = ANY ($1::uuid[])
)
SELECT kind, subject_id AS subject, tenant_id AS party, lane, min(number)::text AS first, max(number)::text AS last,
       bool_and(openable) AS openable
FROM numbered GROUP BY kind, subject_id, tenant_id, lane, island`;

const COUNTS = `
WITH record AS (
  SELECT id, tenant_id, prompt_tokens, cached_prompt_tokens, completion_tokens FROM usage_record WHERE id = ANY ($1::uuid[])
), counted AS (
  SELECT 'tenant' AS kind, r.tenant_id AS subject, r.tenant_id AS party, r.* FROM record r
  UNION ALL
  SELECT 'version', s.adapter_version_id, s.owner_tenant_id, r.*
  FROM record r JOIN usage_share s ON s.request_id = r.id AND s.request_id = ANY ($1::uuid[])
)
SELECT kind, subject, party, count(*)::text AS receipts, sum(prompt_tokens)::text AS prompt,
       sum(cached_prompt_tokens)::text AS cached, sum(completion_tokens)::text AS completion
FROM counted GROUP BY kind, subject, party`;

const CHARGED = `
SELECT tenant_id AS subject, currency, sum(amount_nano)::text AS amount
FROM usage_record WHERE id = ANY ($1::uuid[]) AND amount_nano IS NOT NULL GROUP BY tenant_id, currency`;

const ROYALTIES = `
SELECT adapter_version_id AS subject, owner_tenant_id AS party, currency, sum(royalty_nano)::text AS royalty,
       sum(fee_nano)::text AS fee
FROM usage_charge WHERE request_id = ANY ($1::uuid[]) AND adapter_version_id IS NOT NULL
GROUP BY adapter_version_id, owner_tenant_id, currency`;

const EARNINGS = `
WITH ${EARNED}
SELECT e.version_id AS subject, c.owner_tenant_id AS party, e.currency, e.tenant_id AS tenant, sum(e.amount)::text AS amount
FROM earned e JOIN charge c ON c.request_id = e.request_id AND c.adapter_version_id = e.version_id
GROUP BY e.version_id, c.owner_tenant_id, e.currency, e.tenant_id`;

const NAMED = `
SELECT DISTINCT tenant_id AS tenant, adapter_version_id AS version, owner_tenant_id AS owner, price_version AS price,
       royalty_version AS royalty, split_version AS split
FROM usage_charge WHERE request_id = ANY ($1::uuid[])`;

/** Adds the numbers of requests whose leaves the epoch has, also of those that it quarantines. */
export async function addNumbers(query: Query, accounts: Accounts, ids: readonly Uuid[]): Promise<void> {
  for (const { kind, subject, party, lane, first, last, openable } of await query<NumbersRow>(NUMBERS, [
    ids,
  ])) {
    const account = accounts.of(kind, subject, party);
    account.openable &&= openable;
    const ranges = account.numbers.get(lane) ?? [];
    ranges.push({ first: BigInt(first), last: BigInt(last) });
    account.numbers.set(lane, ranges);
  }
}

/** Whether the accounts of requests that were numbered in an earlier epoch may be opened. */
export async function addOpenable(query: Query, accounts: Accounts, ids: readonly Uuid[]): Promise<void> {
  for (const { kind, subject, party, openable } of await query<NumbersRow>(NUMBERS, [ids])) {
    accounts.of(kind, subject, party).openable &&= openable;
  }
}

/** Adds counts and amounts of requests that match. */
export async function addSums(
  query: Query,
  accounts: Accounts,
  ids: readonly Uuid[],
  digests: ReadonlyMap<Uuid, string>,
): Promise<void> {
  for (const { kind, subject, party, ...row } of await query<CountsRow>(COUNTS, [ids])) {
    const account = accounts.of(kind, subject, party);
    account.receipts += BigInt(row.receipts);
    account.promptTokens += BigInt(row.prompt);
    account.cachedPromptTokens += BigInt(row.cached);
    account.completionTokens += BigInt(row.completion);
  }
  for (const { subject, currency, amount } of await query<ChargedRow>(CHARGED, [ids])) {
    addTo(accounts.of('tenant', subject, subject).charged, currency, BigInt(amount));
  }
  for (const { subject, party, currency, royalty, fee } of await query<RoyaltyRow>(ROYALTIES, [ids])) {
    const royalties = royaltiesOf(accounts.of('version', subject, party), currency);
    royalties.royalty += BigInt(royalty);
    royalties.fee += BigInt(fee);
  }
  for (const { subject, party, currency, tenant, amount } of await query<EarningRow>(EARNINGS, [ids])) {
    addTo(royaltiesOf(accounts.of('version', subject, party), currency).earned, tenant, BigInt(amount));
  }
  for (const { tenant, version, owner, price, royalty, split } of await query<NamedRow>(NAMED, [ids])) {
    name(accounts.of('tenant', tenant, tenant), [price, royalty], digests);
    if (version !== null && owner !== null)
      name(accounts.of('version', version, owner), [price, royalty, split], digests);
  }
}

function name(
  { documents }: Account,
  versions: readonly (Uuid | null)[],
  digests: ReadonlyMap<Uuid, string>,
): void {
  for (const version of versions) {
    const digest = version === null ? undefined : digests.get(version);
    if (digest !== undefined) documents.add(digest);
  }
}

type SubjectRow = { readonly kind: AccountKind; readonly subject: Uuid; readonly party: Uuid };
type NumbersRow = SubjectRow & {
  readonly lane: number;
  readonly first: string;
  readonly last: string;
  readonly openable: boolean;
};
type CountsRow = SubjectRow & {
  readonly receipts: string;
  readonly prompt: string;
  readonly cached: string;
  readonly completion: string;
};
type ChargedRow = { readonly subject: Uuid; readonly currency: string; readonly amount: string };
type RoyaltyRow = {
  readonly subject: Uuid;
  readonly party: Uuid;
  readonly currency: string;
  readonly royalty: string;
  readonly fee: string;
};
type EarningRow = {
  readonly subject: Uuid;
  readonly party: Uuid;
  readonly currency: string;
  readonly tenant: Uuid;
  readonly amount: string;
};
type NamedRow = {
  readonly tenant: Uuid;
  readonly version: Uuid | null;
  readonly owner: Uuid | null;
  readonly price: Uuid;
  readonly royalty: Uuid | null;
  readonly split: Uuid | null;
};
