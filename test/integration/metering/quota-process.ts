import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import { Database } from '../../../src/db/client.ts';
import { systemClock } from '../../../src/kernel/clock.ts';
import { newId } from '../../../src/kernel/ids.ts';
import { OutputCommitment, promptCommitment } from '../../../src/metering/commitment.ts';
import { METERING_DEFAULTS, Metering } from '../../../src/metering/metering.ts';
import type { Admission } from '../../../src/metering/types.ts';
import { FREE, freeRecharge } from '../../kit/unpriced.ts';

// An API process as far as admission goes. It reads one order a line, carries it out, and reports one line for it.

const order = z.object({
  /** Each is tried so often; the attempts of all are made at once. */
  tenantIds: z.array(z.string()),
  attempts: z.number(),
  promptTokens: z.number(),
  maxTokens: z.number(),
});

const [appUrl = '', systemUrl = ''] = process.argv.slice(2);
const report = (event: object) => process.stdout.write(`${JSON.stringify(event)}\n`);
const database = new Database({ appUrl, systemUrl, applicationName: 'quota-process' });
const metering = new Metering(
  { ...METERING_DEFAULTS, leaseMs: 60_000 },
  { database, clock: systemClock, recharge: freeRecharge },
);
const { instanceId } = await metering.lease.ensure();
report({ event: 'ready', instanceId });

for await (const line of createInterface({ input: process.stdin })) {
  const work = order.parse(JSON.parse(line));
  const outcomes = await Promise.all(
    Array.from({ length: work.attempts }, () =>
      work.tenantIds.map((tenantId) => metering.recorder.admit(admissionOf(tenantId, work))),
    ).flat(),
  );
  report({
    event: 'done',
    admitted: outcomes.filter(({ kind }) => kind === 'admitted').length,
    refused: outcomes.flatMap((outcome) =>
      outcome.kind === 'refused' && outcome.refusal.what === 'quota' ? [outcome.refusal.kind] : [],
    ),
  });
}
await metering.stop();
await database.close();

function admissionOf(tenantId: string, { promptTokens, maxTokens }: z.infer<typeof order>): Admission {
  const salt = randomBytes(32);
  return {
    requestId: newId(systemClock),
    tenantId,
    keyId: newId(systemClock),
    idempotency: null,
    backboneDigest: 'b0'.repeat(32),
    adapters: [],
    priority: 'STANDARD',
    promptTokens,
    maxTokens,
    salt,
    promptCommitment: promptCommitment(salt, [1]),
    emptyOutputCommitment: new OutputCommitment(salt).value(),
    charge: FREE,
  };
}
