import { z } from 'zod';
import { type Actor, reaches, requireScope } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { keyset, type Page, type PageRequest, toPage } from '../db/page.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { auditDenied, type DeniedEntry, type RequestContext, recordAudit } from '../tenant/audit.ts';
import { applyChanges, lockOutcomes } from './apply.ts';
import {
  batchesOf,
  type Change,
  changeOf,
  idsByState,
  needSecondPerson,
  type PayoutRow,
  readPayouts,
  requireUnusedReferences,
} from './changes.ts';
import { operatorKey, wrongState } from './operator.ts';
import { sha256 as hashOf } from './payment-file.ts';
import { BANK_REFERENCE, type BankResult, parseResults } from './results.ts';
import { bytes, toImport, toPayout } from './rows.ts';
import { firstToSay, waitsForSecondPerson } from './second-person.ts';
import { lockBatches, settleBatches } from './settle.ts';
import type { Payout, PayoutDeps, PayoutImport } from './types.ts';

/** What an operator found out of a payout that was unknown. */
export interface ResolveUnknownInput {
  readonly payoutId: Uuid;
  readonly outcome: 'PAID' | 'FAILED';
  /** What the bank calls the payment; needed when it was made. */
  readonly bankReference: string | null;
}

/** Who says what is applied, and when. */
interface Said {
  readonly action: DeniedEntry;
  readonly by: Uuid;
  readonly at: Date;
  /** Of all that is said: what a second person has to say too. */
  readonly sha256: string;
}

/** What became of payouts: results of banks, and what operators found out. */
export class PayoutOutcomeService {
  readonly #deps: Pick<PayoutDeps, 'database' | 'clock'>;

  constructor(dependencies: Pick<PayoutDeps, 'database' | 'clock'>) {
    this.#deps = dependencies;
  }

  /**
   * Takes in a file of results: all of it or, when any line is wrong, nothing. The same file again changes nothing. One that
   * frees money of a large batch is taken in when a second person gives the same file.
   */
  async importResults(actor: Actor, content: string, context: RequestContext = {}): Promise<PayoutImport> {
    const { clock, database } = this.#deps;
    const action = { actor, action: 'payout.import', targetType: 'payoutImport', targetId: null, context };
    await auditDenied(this.#deps, action, () => void operatorKey(actor));
    const { sha256, results, total } = parseResults(content);
    const taken = await database.withSystem(async (tx) => {
      await lockOutcomes(tx);
      const known = await tx.payoutImport.findUnique({ where: { sha256: bytes(sha256) } });
      if (known !== null) return toImport(known);
      const payouts = await this.#lockPayouts(tx, results);
      const changes = results.flatMap((result) => changeOf(result, payouts.get(result.key)));
      const at = new Date(clock.nowMs());
      const by = operatorKey(actor);
      if (!(await this.#apply(tx, changes, { action, by, at, sha256 }))) return null;
      const id = newId(clock);
      const data = { id, sha256: bytes(sha256), content, createdAt: at, importedBy: by };
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
    if (taken === null) throw waitsForSecondPerson();
    return taken;
  }

  /** Says what became of a payout that a bank called unknown. That it failed is, of a large batch, said by two people. */
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
    const resolved = await database.withSystem(async (tx) => {
      await lockOutcomes(tx);
      const found = await tx.payout.findUnique({ where: { id: payoutId }, select: { batchId: true } });
      if (found === null)
        throw new PatchbayError('NOT_FOUND', 'There is no such payout.', { field: 'payout' });
      await lockBatches(tx, [found.batchId]);
      const read = { where: { id: payoutId }, include: { destination: true, batch: true } } as const;
      const row = await tx.payout.findUniqueOrThrow(read);
      if (row.state === outcome && row.bankReference === bankReference) return toPayout(row);
      if (row.state !== 'UNKNOWN') {
        const fix = 'Only what the bank calls unknown is resolved by hand; import its results otherwise.';
        throw wrongState('payout', row.state, fix, 'payout');
      }
      const at = new Date(clock.nowMs());
      const change = { payout: row, state: outcome, reference: bankReference, line: null };
      const sha256 = hashOf(['patchbay:payout.resolve', payoutId, outcome, bankReference ?? ''].join('\n'));
      if (!(await this.#apply(tx, [change], { action, by: operatorKey(actor), at, sha256 }))) return null;
      await settleBatches(tx, clock, [row.batchId]);
      const before = { state: row.state, bankReference: row.bankReference };
      const after = { state: outcome, bankReference };
      await recordAudit(tx, clock, { ...action, tenantId: row.tenantId, before, after });
      return toPayout(await tx.payout.findUniqueOrThrow(read));
    });
    if (resolved === null) throw waitsForSecondPerson();
    return resolved;
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

  /** Moves payouts and their money on; false when that waits for a second person, and nothing was moved. */
  async #apply(tx: Tx, changes: readonly Change[], said: Said): Promise<boolean> {
    if (changes.length === 0) return true;
    const { clock } = this.#deps;
    const { by, at, sha256 } = said;
    await requireUnusedReferences(tx, changes);
    const first = needSecondPerson(changes) ? await firstToSay(tx, { sha256, by, at }) : by;
    if (first === null) {
      const after = { sha256, ...idsByState(changes) };
      const request = {
        ...said.action,
        action: 'payout.requestRelease',
        tenantId: PLATFORM_TENANT_ID,
        after,
      };
      await recordAudit(tx, clock, request);
      return false;
    }
    await applyChanges(tx, clock, changes, { first, by, at });
    return true;
  }
}

const reference = z.string().regex(BANK_REFERENCE).nullable();

function requireReference(outcome: 'PAID' | 'FAILED', text: string | null): void {
  if (reference.safeParse(text).success && (outcome === 'FAILED' || text !== null)) return;
  throw new PatchbayError('BAD_INPUT', 'A payment that was made has a reference of 1 to 140 characters.', {
    field: 'bankReference',
  });
}
