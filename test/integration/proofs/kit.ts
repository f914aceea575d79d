import { createHash } from 'node:crypto';
import { recoverAddress } from 'ethers/transaction';
import type { Uuid } from '../../../src/kernel/ids.ts';
import { treeHeadDigest } from '../../../src/proofs/log/digest.ts';
import { openLog } from '../../../src/proofs/log/open.ts';
import type { DigestSigner, TreeHead } from '../../../src/proofs/log/types.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { LOG_ID, testSigner } from '../../kit/log.ts';
import type { TestDatabase } from '../../kit/postgres.ts';

/** The id of the n-th entry; they sort as they are counted. */
export function entryId(n: number): Uuid {
  return `0192f000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`;
}

/** The leaf hash of the n-th entry, by what the RFC says and nothing of the program. */
export function leafOf(n: number): Buffer {
  return createHash('sha256').update(Buffer.of(0)).update(`entry ${n}`).digest();
}

/** Puts entries up for the log. */
export async function queue(db: TestDatabase, from: number, to: number): Promise<void> {
  const numbers = Array.from({ length: to - from }, (_, i) => from + i);
  await db.database.querySystem(
    'INSERT INTO log_queue (entry_id, leaf_hash) SELECT * FROM unnest($1::uuid[], $2::bytea[])',
    [numbers.map(entryId), numbers.map(leafOf)],
  );
}

/** A log in a test's database, at a time that the test says. */
export function testLog(
  db: TestDatabase,
  options: { readonly leavesMax?: number; readonly headsMax?: number; readonly signer?: DigestSigner } = {},
) {
  const { signer = testSigner(), ...limits } = options;
  const clock = new ManualClock();
  clock.advance(Date.UTC(2026, 3, 4));
  return { ...openLog({ logId: LOG_ID, ...limits }, { database: db.database, clock, signer }), clock };
}

/** Whether the head is signed by the key whose address it names. */
export function isSigned(head: TreeHead): boolean {
  const digest = `0x${Buffer.from(treeHeadDigest(LOG_ID, head)).toString('hex')}`;
  return recoverAddress(digest, head.signature) === head.address;
}
