import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { resolvePayouts } from './money.ts';
import { operatorKey, wrongState } from './operator.ts';
import { type BankResult, fileError, parseResults } from './results.ts';
import { bytes, toImport, toPayout } from './rows.ts';
import { lockBatches, settleBatches } from './settle.ts';
import type { Payout, PayoutDeps, PayoutImport, PayoutState, ResultState } from './types.ts';

/** What an operator found out of a payout that was unknown. */
export interface ResolveUnknownInput {
  readonly payoutId: Uuid;
  readonly outcome: 'PAID' | 'FAILED';
  /** What the bank calls the payment; needed when it was made. */
  readonly bankReference: string | null;
}

/** A payout with what it becomes. */
interface Change {
  readonly payout: PayoutRow;
  readonly state: ResultState;
  readonly bankReference: string | null;
}

type PayoutRow = Awaited<ReturnType<typeof readPayouts>>[number];

const RESULTS_OF: Readonly<Record<PayoutState, readonly ResultState[]>> = {
  PENDING: [],
  SENDING: ['PAID', 'FAILED', 'UNKNOWN'],
  UNKNOWN: ['PAID', 'FAILED'],
  PAID: [],
  FAILED: [],
  CANCELLED: [],
};
const REFERENCE = /^[^\p{Cc}]{1,140}$/u;

/** What became of payouts: results of banks, and what operators found out. */
export class PayoutOutcomeService {
  readonly #deps: Pick<PayoutDeps, 'database' | 'clock'>;

  constructor(dependencies: Pick<PayoutDeps, 'database' | 'clock'>) {
    this.#deps = dependencies;
  }

  /** Takes in a file of results: all of it or, when any line is wrong, nothing. The same file again changes nothing. */
  async importResults(actor: Actor, content: string, context: RequestContext = {}): Promise<PayoutImport> {
    const { clock, database } = this.#deps;
    const action = { actor, action: 'payout.import', targetType: 'payoutImport', targetId: null, context };
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    const { sha256, results, total } = parseResults(content);
    return database.withSystem(async (tx) => {
      // One file after the other, so that the second of two equal ones finds the first.
      await tx.$queryRaw`SELECT pg_advisory_xact_lock(hashtextextended('patchbay.payouts.import', 0))::text`;
      const known = await tx.payoutImport.findUnique({ where: { sha256: bytes(sha256) } });
      if (known !== null) return toImport(known);
      const payouts = await this.#lockPayouts(tx, results);
      const changes = results.flatMap((result) => changeOf(result, payouts.get(result.key)));
      const at = new Date(clock.nowMs());
      await this.#apply(tx, changes, at);
      const id = newId(clock);
      const data = { id, sha256: bytes(sha256), content, createdAt: at, importedBy: operatorKey(actor) };
      const counts = { resultCount: results.length, appliedCount: changes.length, totalNano: String(total) };
      await tx.payoutImport.createMany({ data: { ...data, ...counts } });
      await tx.payoutResult.createMany({
        data: results.map(({ key, line, state, reference }) => ({
          ...{ importId: id, line, state, bankReference: reference },
          payoutId: payouts.get(key)?.id ?? '',
        })),
      });
      await settleBatches(tx, clock, batchesOf(changes));
      const after = { sha256, ...counts, ...idsByState(changes) };
      await recordAudit(tx, clock, { ...action, targetId: id, tenantId: PLATFORM_TENANT_ID, after });
      return toImport(await tx.payoutImport.findUniqueOrThrow({ where: { id } }));
    });
  }

  /** Says what became of a payout that a bank called unknown. */
  async resolveUnknown(
    actor: Actor,
    input: ResolveUnknownInput,
    context: RequestContext = {},
  ): Promise<Payout> {
    const { clock, database } = this.#deps;
    const { payoutId, outcome, bankReference } = input;
    const action = { actor, action: 'payout.resolve', targetType: 'payout', targetId: payoutId, context };
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    requireReference(outcome, bankReference);
    return database.withSystem(async (tx) => {
      const found = await tx.payout.findUnique({ where: { id: payoutId }, select: { batchId: true } });
      if (found === null)
        throw new PatchbayError('NOT_FOUND', 'There is no such payout.', { field: 'payout' });
      await lockBatches(tx, [found.batchId]);
      const row = await tx.payout.findUniqueOrThrow({
        where: { id: payoutId },
        include: { destination: true },
      });
      if (row.state === outcome && row.bankReference === bankReference) return toPayout(row);
      if (row.state !== 'UNKNOWN') {
        const fix = 'Only what the bank calls unknown is resolved by hand; import its results otherwise.';
        throw wrongState('payout', row.state, fix, 'payout');
      }
      const at = new Date(clock.nowMs());
      await this.#apply(tx, [{ payout: row, state: outcome, bankReference }], at);
      await settleBatches(tx, clock, [row.batchId]);
      const before = { state: row.state, bankReference: row.bankReference };
      const after = { state: outcome, bankReference };
      await recordAudit(tx, clock, { ...action, tenantId: row.tenantId, before, after });
      const changed = await tx.payout.findUniqueOrThrow({
        where: { id: payoutId },
        include: { destination: true },
      });
      return toPayout(changed);
    });
  }

  /** A beneficiary's payouts, oldest first; for an operator those of any tenant, or of all. */
  async list(
    actor: Actor,
    filter: { readonly tenantId: Uuid | null; readonly batchId: Uuid | null },
    page: PageRequest,
  ): Promise<Page<Payout>> {
    requireScope(actor, 'billing:read');
    const { database } = this.#deps;
    const { where, ...order } = keyset(page);
    const { tenantId, batchId } = filter;
    if (tenantId !== null && !reaches(actor, tenantId)) {
      throw new PatchbayError('NOT_FOUND', 'No such tenant is visible to you.', { field: 'tenant' });
    }
    const work = async (tx: Tx): Promise<Page<Payout>> => {
      const rows = await tx.payout.findMany({
        where: { AND: [where, tenantId === null ? {} : { tenantId }, batchId === null ? {} : { batchId }] },
        include: { destination: true },
        ...order,
      });
      return toPage(rows, page, toPayout);
    };
    return actor.kind === 'TENANT' ? database.withTenant(actor.tenantId, work) : database.withSystem(work);
  }

  /** The payouts that the results are about, by key, with their batches locked. */
  async #lockPayouts(tx: Tx, results: readonly BankResult[]): Promise<ReadonlyMap<string, PayoutRow>> {
    const keys = results.map(({ key }) => bytes(key));
    const batches = await tx.payout.findMany({
      where: { paymentKey: { in: keys } },
      select: { batchId: true },
      distinct: ['batchId'],
    });
    await lockBatches(
      tx,
      batches.map(({ batchId }) => batchId),
    );
    const rows = await readPayouts(tx, keys);
    return new Map(rows.map((row) => [toPayout(row).paymentKey, row]));
  }

  async #apply(tx: Tx, changes: readonly Change[], at: Date): Promise<void> {
    if (changes.length === 0) return;
    const ids = changes.map(({ payout }) => payout.id);
    const states = changes.map(({ state }) => state);
    const references = changes.map(({ bankReference }) => bankReference ?? '');
    await tx.$executeRaw`
      UPDATE payout p SET state = c.state, bank_reference = nullif(c.reference, ''), state_changed_at = ${at}::timestamptz
      FROM unnest(${ids}::uuid[], ${states}::text[], ${references}::text[]) AS c(id, state, reference)
      WHERE p.id = c.id`;
    const those = (state: ResultState) =>
      changes.filter((change) => change.state === state).map(({ payout }) => payout);
    await resolvePayouts(tx, this.#deps.clock, those('PAID'), those('FAILED'), at);
  }
}

function readPayouts(tx: Tx, keys: readonly Uint8Array<ArrayBuffer>[]) {
  return tx.payout.findMany({ where: { paymentKey: { in: [...keys] } }, include: { destination: true } });
}

/** What a result changes: nothing when it says what is known. Throws when it contradicts. */
function changeOf(result: BankResult, payout: PayoutRow | undefined): readonly Change[] {
  const { key, line, state, amount, reference } = result;
  if (payout === undefined) throw fileError(`No payout has the key ${key}.`, line);
  if (payout.amountNano !== amount) {
    throw fileError('The amount is not the one of the payout.', line);
  }
  const known = toPayout(payout);
  if (known.state === state && known.bankReference === reference) return [];
  if (RESULTS_OF[known.state].includes(state)) return [{ payout, state, bankReference: reference }];
  const reported = known.bankReference === null ? '' : ` with the reference ${known.bankReference}`;
  const message = `The payout is ${known.state}${reported}, and the file says ${state}.`;
  throw fileError(message, line, 'PAYOUT_STATE');
}

function batchesOf(changes: readonly Change[]): readonly Uuid[] {
  return [...new Set(changes.map(({ payout }) => payout.batchId))];
}

/** The payouts by what they have become, for the audit log. */
function idsByState(changes: readonly Change[]) {
  const those = (state: ResultState): readonly Uuid[] =>
    changes.filter((change) => change.state === state).map(({ payout }) => payout.id);
  return { paid: those('PAID'), failed: those('FAILED'), unknown: those('UNKNOWN') };
}

const reference = z.string().regex(REFERENCE).nullable();

function requireReference(outcome: 'PAID' | 'FAILED', text: string | null): void {
  if (reference.safeParse(text).success && (outcome === 'FAILED' || text !== null)) return;
  throw new PatchbayError('BAD_INPUT', 'A payment that was made has a reference of 1 to 140 characters.', {
    field: 'bankReference',
  });
}
