import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { systemClock } from '../../../src/kernel/clock.ts';
import { DocumentStore } from '../../../src/proofs/receipts/document-store.ts';
import { ReceiptIssuer } from '../../../src/proofs/receipts/issuer.ts';
import { LOG_ID, testSigner } from '../../kit/log.ts';
import { MortalDatabase, mortal } from '../../kit/mortal.ts';

// A process that signs the receipts of all that has settled, and kills itself at one point of it.

const order = z.object({
  appUrl: z.string(),
  systemUrl: z.string(),
  point: z.string(),
  /** The time that the key in use is of. */
  nowMs: z.number(),
});
const { appUrl, systemUrl, point, nowMs } = order.parse(JSON.parse(process.argv[2] ?? ''));
const database = new MortalDatabase({ appUrl, systemUrl, applicationName: 'mortal' }, mortal(point));
const documents = new DocumentStore({ database });
const issuer = new ReceiptIssuer(
  { logId: LOG_ID, batchMax: 500, lostAfterMs: 0 },
  { database, clock: { ...systemClock, nowMs: () => nowMs }, signer: testSigner(), documents, randomBytes },
);
await issuer.issueLost();
await database.close();
