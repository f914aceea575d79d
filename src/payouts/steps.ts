import { SYSTEM_ACTOR } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import type { Uuid } from '../kernel/ids.ts';
import { type AuditEntry, recordAudit } from '../tenant/audit.ts';

/**
 * Records a step of a batch that the program takes, because what an operator or a bank did before it led there. It may be
 * taken much later and by another process, so it has no request; the operator's own line names the batch as well.
 */
export function recordStep(
  tx: Tx,
  clock: Clock,
  batchId: Uuid,
  step: 'submitted' | 'settled',
  states: Required<Pick<AuditEntry, 'before' | 'after'>>,
): Promise<void> {
  return recordAudit(tx, clock, {
    ...states,
    tenantId: PLATFORM_TENANT_ID,
    actor: SYSTEM_ACTOR,
    action: `payoutBatch.${step}`,
    targetType: 'payoutBatch',
    targetId: batchId,
    context: {},
  });
}
