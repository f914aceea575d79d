import { z } from 'zod';
import type { Tx } from '../db/client.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { bytes } from './rows.ts';

const requested = z.array(z.object({ requested_by: z.string(), is_same: z.boolean() }));

/**
 * Takes down who says something that frees money, unless somebody has said the same before. Answers who said it first,
 * when that was another person; null when it waits for one.
 */
export async function firstToSay(
  tx: Tx,
  said: { readonly sha256: string; readonly by: Uuid; readonly at: Date },
): Promise<Uuid | null> {
  const hash = bytes(said.sha256);
  await tx.$executeRaw`
    INSERT INTO payout_release (content_sha256, requested_by, created_at)
    VALUES (${hash}, ${said.by}::uuid, ${said.at}::timestamptz) ON CONFLICT DO NOTHING`;
  const [first] = requested.parse(
    await tx.$queryRaw`
      SELECT requested_by, patchbay.is_same_person(requested_by, ${said.by}::uuid) AS is_same
      FROM payout_release WHERE content_sha256 = ${hash}`,
  );
  return first === undefined || first.is_same ? null : first.requested_by;
}

/** The answer to the first of two people. */
export function waitsForSecondPerson(): PatchbayError {
  return new PatchbayError(
    'PAYOUT_SECOND_PERSON',
    'It frees money of a batch for which one person is not enough. It was taken down, and nothing has changed yet.',
  );
}
