import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { z } from 'zod';
import { type Principal, SCOPES } from '../../../src/auth/principal.ts';
import type { Database } from '../../../src/db/client.ts';
import { PLATFORM_TENANT_ID } from '../../../src/db/platform.ts';
import type { Clock } from '../../../src/kernel/clock.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { newId, type Uuid } from '../../../src/kernel/ids.ts';
import { NANO, parseMoney } from '../../../src/kernel/money.ts';
import { LedgerSealer, SEALER_DEFAULTS } from '../../../src/ledger/sealer.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../src/ledger/service.ts';
import type { ChainPayouts } from '../../../src/payouts/chain/open.ts';
import { FilePayoutRail } from '../../../src/payouts/file-rail.ts';
import { openPayouts } from '../../../src/payouts/open.ts';
import type { PayoutRail, RailKind } from '../../../src/payouts/rail.ts';
import { PAYOUT_DEFAULTS, type PayoutBatch, type PayoutOptions } from '../../../src/payouts/types.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import { writeSettled } from '../../kit/settled.ts';
import { createTenancy } from '../../kit/tenancy.ts';
import { resultsFile, type Said } from '../../unit/payouts/files.ts';

/** Printed by tests that draw at random; with the same seed they draw the same. */
export const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_261_128);

export const DAY_MS = 24 * 3_600_000;
/** One unit of a currency. */
export const UNIT = NANO;
export const IBAN = 'DE89370400440532013000';
const START_MS = Date.UTC(2028, 1, 1);

const rows = z.array(z.record(z.string(), z.string()));

/** A currency that no other test uses. */
export function newCurrency(): string {
  const letters = [...randomUUID().replaceAll('-', '')].slice(0, 6);
  return `X${letters.map((digit) => String.fromCharCode(65 + Number.parseInt(digit, 16))).join('')}`;
}

/** A beneficiary with an account of earnings, and a destination unless it has none. */
export interface Beneficiary {
  readonly tenantId: Uuid;
  readonly accountId: Uuid;
  readonly principal: Principal;
}

export interface PayoutsKitOptions {
  readonly options?: Partial<PayoutOptions>;
  /** A database that somebody else disposes of; left out: one of its own. */
  readonly db?: TestDatabase;
  /** Stands before the payment files. */
  readonly wrapRail?: (rail: PayoutRail) => PayoutRail;
  /** Payouts on a chain; left out: none. */
  readonly chain?: (deps: { readonly database: Database; readonly clock: Clock }) => ChainPayouts;
}

/** Payouts on a real database and real files, with a clock that a test moves. */
export async function openPayoutsKit(more: PayoutsKitOptions = {}) {
  const db = more.db ?? (await createTestDatabase());
  const root = await mkdtemp(join(tmpdir(), 'patchbay-payouts-'));
  const folder = join(root, 'payouts');
  const clock = new ManualClock();
  clock.advance(START_MS);
  const { database } = db;
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database, clock });
  const sealer = new LedgerSealer(SEALER_DEFAULTS, { database, clock });
  const tenancy = createTenancy(database, clock);
  const drafter = (await tenancy.createOperatorKey()).principal;
  const approver = (await tenancy.createOperatorKey()).principal;
  const files = new FilePayoutRail({ folder });
  const rail = more.wrapRail?.(files) ?? files;
  const options: PayoutOptions = { ...PAYOUT_DEFAULTS, ...more.options };
  const payouts = openPayouts(options, {
    database,
    clock,
    file: rail,
    chain: more.chain?.({ database, clock }) ?? null,
  });
  const payer = await tenancy.createTenant();
  const payers = new Map<string, Uuid>();

  const payerAccount = async (currency: string): Promise<Uuid> => {
    const known = payers.get(currency);
    if (known !== undefined) return known;
    const opened = await ledger.openAccount(payer.id, 'CUSTOMER', currency);
    await ledger.setCreditLimit(opened, 10n ** 18n, randomUUID());
    payers.set(currency, opened);
    return opened;
  };

  const kit = {
    ...{ db, clock, folder, ledger, sealer, tenancy, drafter, approver, options, payouts },

    /** Whoever earns in the currency. */
    async beneficiary(
      currency: string,
      destination: { readonly reference?: string; readonly kind?: RailKind } | null = {},
    ): Promise<Beneficiary> {
      const { id: tenantId } = await tenancy.createTenant();
      const { principal } = await tenancy.createKey(tenantId, [...SCOPES]);
      const accountId = await ledger.openAccount(tenantId, 'EARNINGS', currency);
      if (destination !== null) {
        await payouts.destinations.set(principal, {
          idempotencyKey: randomUUID(),
          kind: destination.kind ?? 'FILE',
          accountName: 'Ada Lovelace',
          accountReference: destination.reference ?? IBAN,
        });
      }
      return { tenantId, accountId, principal };
    },

    /** A settled request: the payer's money becomes earnings, all of it. */
    async earn(
      who: Beneficiary,
      currency: string,
      amount: bigint,
      versionId: Uuid = newId(clock),
    ): Promise<void> {
      await writeSettled(
        { database, clock },
        {
          tenantId: payer.id,
          accountId: await payerAccount(currency),
          backbone: 'ab'.repeat(32),
          currency,
          endedAt: new Date(clock.nowMs()).toISOString(),
          adapter: { versionId, adapterId: versionId, ownerTenantId: who.tenantId },
          priceVersion: newId(clock),
          royaltyNano: amount,
          earnings: who.accountId,
          platform: who.accountId,
        },
      );
    },

    /** A correction, with a sign. */
    async correct(
      who: Beneficiary,
      currency: string,
      amount: bigint,
      versionId: Uuid | null = null,
    ): Promise<void> {
      const adjustment = await ledger.openAccount(PLATFORM_TENANT_ID, 'ADJUSTMENT', currency);
      const id = newId(clock);
      await ledger.post({
        ...{
          id,
          tenantId: who.tenantId,
          asset: currency,
          key: id,
          referenceType: 'correction',
          referenceId: null,
        },
        lines: [
          { accountId: who.accountId, amount, subjectId: versionId },
          { accountId: adjustment, amount: -amount, subjectId: null },
        ],
      });
    },

    create: (
      currency: string,
      earnedBefore: Date | null = null,
      rail: RailKind = 'FILE',
    ): Promise<PayoutBatch> =>
      payouts.batches.create(drafter, { idempotencyKey: randomUUID(), currency, earnedBefore, rail }),

    /** A batch that the rail has. */
    async submitted(currency: string, kind: RailKind = 'FILE'): Promise<PayoutBatch> {
      const { id } = await kit.create(currency, null, kind);
      await payouts.batches.approve(approver, id);
      return payouts.batches.submit(drafter, id);
    },

    async payoutsOf(batchId: Uuid) {
      const page = await payouts.outcomes.list(
        drafter,
        { tenantId: null, batchId },
        { first: 100, after: null },
      );
      return page.items;
    },

    /** Imports what a bank says. */
    say: (said: readonly Said[]) => payouts.outcomes.importResults(drafter, resultsFile(said)),

    async balance(who: Beneficiary) {
      const [found] = await ledger.balances([who.accountId]);
      if (found === undefined) throw new Error('There is an account.');
      return found;
    },

    /** What went out in the currency. */
    async paidOut(currency: string): Promise<bigint> {
      const cash = await ledger.openAccount(PLATFORM_TENANT_ID, 'CASH', currency);
      const [found] = await ledger.balances([cash]);
      return found?.posted ?? 0n;
    },

    /** Every payment in every file, as the bank reads them. */
    async payments() {
      const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith('.csv'));
      const found: {
        readonly file: string;
        readonly key: string;
        readonly tenantId: string;
        readonly amount: bigint;
      }[] = [];
      for (const file of names) {
        for (const row of rows.parse(parse(await readFile(join(folder, file), 'utf8'), { columns: true }))) {
          if (row['record'] !== 'PAYMENT') continue;
          const amount = parseMoney(row['amount'] ?? '') ?? -1n;
          found.push({ file, key: row['key'] ?? '', tenantId: row['beneficiary'] ?? '', amount });
        }
      }
      return found;
    },

    async events(subjectId: Uuid): Promise<readonly unknown[]> {
      const found = await db.admin<{ state: string }>(
        `SELECT payload ->> 'state' AS state FROM outbox_event WHERE subject_id = $1 ORDER BY position`,
        [subjectId],
      );
      return found.map(({ state }) => state);
    },

    async dispose(): Promise<void> {
      await tenancy.authenticator.close();
      if (more.db === undefined) await db.dispose();
      await rm(root, { recursive: true, force: true });
    },
  };
  return kit;
}

export type PayoutsKit = Awaited<ReturnType<typeof openPayoutsKit>>;

/** The code that the work fails with; null when it does not fail. */
export async function codeOf(work: Promise<unknown>): Promise<string | null> {
  try {
    await work;
    return null;
  } catch (error) {
    return error instanceof PatchbayError ? error.code : `not ours: ${error}`;
  }
}
