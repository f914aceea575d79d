import { randomUUID } from 'node:crypto';
import { SYSTEM_ACTOR } from '../../../../src/auth/principal.ts';
import { PLATFORM_TENANT_ID } from '../../../../src/db/platform.ts';
import { newId } from '../../../../src/kernel/ids.ts';
import { LEDGER_DEFAULTS, LedgerService } from '../../../../src/ledger/service.ts';
import { createInvoicing } from '../../../kit/invoicing.ts';
import { writeSettled } from '../../../kit/settled.ts';
import { CONTEXT } from '../../../unit/adapter/sample.ts';
import type { Stack } from '../../graphql/stack.ts';

/** Something in every table of bills: terms, a final invoice with a charge that is open, and a credit note. */
export async function billVictim(
  { registry }: Pick<Stack, 'registry'>,
  tenantId: string,
): Promise<{ readonly invoice: string; readonly creditNote: string }> {
  const { database } = registry.db;
  await registry.db.admin(`UPDATE tenant SET created_at = '2025-01-01T00:00:00Z' WHERE id = $1`, [tenantId]);
  // Terms are never backdated, so all of this happens by a clock of its own.
  let nowMs = Date.UTC(2025, 0, 1);
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs };
  const { terms, periods, invoices } = createInvoicing({ database, clock });
  // More than anybody has.
  const minimum = { currency: 'USD', freeNano: 0n, minimumNano: 10n ** 18n, tiers: [] };
  const setTerms = (wanted: typeof minimum | null) =>
    terms.set(SYSTEM_ACTOR, {
      idempotencyKey: randomUUID(),
      tenantId,
      terms: wanted,
      effectiveFrom: null,
    });
  await setTerms(minimum);
  const ledger = new LedgerService(LEDGER_DEFAULTS, { database, clock });
  await writeSettled(
    { database, clock },
    {
      tenantId,
      accountId: await ledger.openAccount(tenantId, 'CUSTOMER', 'USD'),
      backbone: CONTEXT.backboneDigest,
      endedAt: '2025-01-15T00:00:00Z',
      priceVersion: newId(clock),
      inputNano: 50n,
      platform: await ledger.openAccount(PLATFORM_TENANT_ID, 'PLATFORM_BASE', 'USD'),
    },
  );
  nowMs = Date.UTC(2025, 1, 2);
  const keyed = () => ({ idempotencyKey: randomUUID() });
  const { id } = await periods.close(SYSTEM_ACTOR, { ...keyed(), tenantId, period: '2025-01' });
  await invoices.finalise(SYSTEM_ACTOR, { ...keyed(), invoiceId: id });
  const note = await invoices.credit(SYSTEM_ACTOR, {
    ...keyed(),
    invoiceId: id,
    amountNano: 1n,
    reason: 'secret-reason',
  });
  // Later months have no terms, so that nothing of them stays open.
  await setTerms(null);
  return { invoice: id, creditNote: note.id };
}
