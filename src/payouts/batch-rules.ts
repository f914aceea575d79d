import { PatchbayError } from '../kernel/errors.ts';

/** Throws FORBIDDEN when who drafted a large batch would approve it. */
export function requireSecondPerson(isDrafter: boolean): void {
  if (!isDrafter) return;
  throw new PatchbayError(
    'FORBIDDEN',
    'A batch of this amount is approved by somebody else than who drafted it.',
    {
      fix: 'Let another operator approve it, with a key that comes from no key of the drafter: `npx patchbay operator-key` makes one.',
    },
  );
}

/** The wanted time, if all of it is past the holdback window. */
export function cutOff(wanted: Date | null, latest: Date): Date {
  if (wanted === null || wanted.getTime() === latest.getTime()) return latest;
  if (wanted.getTime() < latest.getTime()) return wanted;
  throw new PatchbayError('BAD_INPUT', `What was posted since ${latest.toISOString()} is held back.`, {
    field: 'earnedBefore',
    fix: 'Give that time or an earlier one, or leave it out.',
    meta: { latest: latest.toISOString() },
  });
}
