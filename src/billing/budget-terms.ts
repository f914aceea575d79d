import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';

/** What a budget bounds: everything of the tenant, what one of its keys costs, or what an adapter costs it. */
export type BudgetSubject =
  | { readonly scope: 'TENANT' }
  | { readonly scope: 'KEY'; readonly keyId: Uuid }
  | { readonly scope: 'ADAPTER'; readonly adapterId: Uuid };
export type BudgetScope = BudgetSubject['scope'];

/** Stands for the whole tenant where a subject is stored. */
export const WHOLE_TENANT: Uuid = '00000000-0000-0000-0000-000000000000';

/** Highest limit: 10^18 nano-units, a billion units. */
export const LIMIT_MAX = 10n ** 18n;
const ALERTS_MAX = 10;
const WHOLE_PPM = 1_000_000;

export function subjectIdOf(subject: BudgetSubject): Uuid {
  switch (subject.scope) {
    case 'TENANT':
      return WHOLE_TENANT;
    case 'KEY':
      return subject.keyId;
    case 'ADAPTER':
      return subject.adapterId;
  }
}

/** Throws `BAD_INPUT` for a limit or thresholds that no budget can have. */
export function checkBudget(limit: bigint, alertsPpm: readonly number[] | null): void {
  if (limit < 0n || limit > LIMIT_MAX) {
    throw new PatchbayError('BAD_INPUT', `A limit is 0 to ${LIMIT_MAX} nano-units.`, { field: 'limit' });
  }
  if (alertsPpm === null) return;
  if (alertsPpm.length > ALERTS_MAX) {
    throw new PatchbayError('BAD_INPUT', `A budget has at most ${ALERTS_MAX} thresholds.`, {
      field: 'alertsPpm',
    });
  }
  if (alertsPpm.some((ppm) => !Number.isInteger(ppm) || ppm < 1 || ppm > WHOLE_PPM)) {
    throw new PatchbayError('BAD_INPUT', `A threshold is 1 to ${WHOLE_PPM} parts per million of the limit.`, {
      field: 'alertsPpm',
    });
  }
}

/**
 * What the budget of a subject is kept under: of a key, the first of its chain of rotations, so that the budget bounds all
 * of them. Throws unless the subject is a key of the tenant's own, or an adapter that it may run. Of somebody else's,
 * hidden and absent ones the same is said, found by the same query.
 */
export async function findSubject(tx: Tx, subject: BudgetSubject): Promise<Uuid> {
  switch (subject.scope) {
    case 'TENANT':
      return WHOLE_TENANT;
    case 'KEY': {
      const key = await tx.apiKey.findUnique({ where: { id: subject.keyId }, select: { originId: true } });
      if (key !== null) return key.originId;
      throw new PatchbayError('NOT_FOUND', 'No such key is visible to you.', { field: 'key' });
    }
    case 'ADAPTER': {
      const found = await tx.$queryRaw<
        unknown[]
      >`SELECT id FROM patchbay.find_adapter(${subject.adapterId}::uuid)`;
      if (found.length === 1) return subject.adapterId;
      throw new PatchbayError('ADAPTER_NOT_FOUND', 'No such adapter is visible to you.', {
        field: 'adapter',
      });
    }
  }
}
