import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InferenceEvent } from '../../../src/inference/events.ts';
import { outputCommitment } from '../../../src/metering/commitment.ts';
import { createTestDatabase, type TestDatabase } from '../../kit/postgres.ts';
import {
  expire,
  only,
  plainInput,
  quiesce,
  recordsOf,
  startProcess,
  type TestProcess,
  testCaller,
} from '../inference/harness.ts';

const SEED = Number(process.env['PATCHBAY_TEST_SEED'] ?? 20_260_302);

let db: TestDatabase;
let survivor: TestProcess;

beforeAll(async () => {
  db = await createTestDatabase();
  survivor = await startProcess(db);
});
afterAll(async () => {
  await survivor.close();
  await db.dispose();
});

/** What happens before the process is lost: tokens are generated, the client reads, the database catches up. */
type Step =
  | { readonly kind: 'emit'; readonly tokens: number }
  | { readonly kind: 'read' }
  | { readonly kind: 'flush' };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ kind: fc.constant('emit' as const), tokens: fc.integer({ min: 1, max: 4 }) }),
  fc.constant({ kind: 'read' as const }),
  fc.constant({ kind: 'flush' as const }),
);

/** A client that reads in the background, and keeps what it has been given. */
class Client {
  readonly chunks: (readonly number[])[] = [];
  ended = false;
  private readonly stream: AsyncIterator<InferenceEvent>;
  private reading: Promise<void> | null = null;

  constructor(stream: AsyncIterator<InferenceEvent>) {
    this.stream = stream;
  }

  /** Asks for one event, unless it waits for one already. */
  read(): Promise<void> {
    this.reading ??= this.stream.next().then((result) => {
      this.reading = null;
      if (result.done === true) this.ended = true;
      else if (result.value.kind === 'tokens') this.chunks.push(result.value.tokens.map((token) => token.id));
    });
    return this.reading;
  }
}

describe('a process that is lost at any point', () => {
  it(`has delivered no more than is metered, and at most one chunk less (seed ${SEED})`, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 14 }), async (steps) => {
        const api = await startProcess(db);
        const caller = testCaller();
        const stream = await api.service.infer(caller, plainInput(2));
        const sequence = await api.engine.sequence(0);
        const client = new Client(stream);
        for (const one of steps) {
          if (one.kind === 'emit') sequence.emit(...Array.from({ length: one.tokens }, (_, i) => i + 1));
          else if (one.kind === 'read') void client.read();
          else await quiesce(api);
        }
        // The fence falls wherever the process is now.
        await expire(db, api);
        const written = client.chunks.length;
        await survivor.metering.recoverExpired();
        const record = only(await recordsOf(db, caller.tenantId));
        const metered = record.completion_tokens;
        // The process lives on in this test, so the chunk that was committed and not yet written still comes out.
        await api.metering.lease.renew();
        while (!client.ended) await client.read();

        const generated = sequence.generated.map((token) => token.id);
        expect(client.chunks.length - written).toBeLessThanOrEqual(1);
        expect(client.chunks.flat()).toEqual(generated.slice(0, metered));
        expect(metered).toBeLessThanOrEqual(generated.length);
        const { salt } = only(
          await db.admin<{ salt: Buffer }>('SELECT salt FROM usage_salt WHERE request_id = $1', [record.id]),
        );
        expect(record.output_commitment).toEqual(outputCommitment(salt, generated.slice(0, metered)));
        await api.close();
      }),
      { seed: SEED, numRuns: 60 },
    );
  });
});
