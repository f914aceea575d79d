import { SYSTEM_ACTOR } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { type AuditEntry, recordAudit } from '../tenant/audit.ts';
import type { Invoice } from './rows.ts';

/**
 * Records a step of a bill that the program takes by itself: what was open is posted, or what has nothing due is paid. It may
 * be taken long after what led there, so it has no request.
 */
export function recordStep(
  tx: Tx,
  clock: Clock,
  { id, tenantId }: Pick<Invoice, 'id' | 'tenantId'>,
  step: 'collected' | 'settled',
  states: Required<Pick<AuditEntry, 'before' | 'after'>>,
): Promise<void> {
  const target = { action: `invoice.${step}`, targetType: 'invoice', targetId: id };
  return recordAudit(tx, clock, { ...states, ...target, tenantId, actor: SYSTEM_ACTOR, context: {} });
}
