import { describe, expect, test } from 'vitest';
import type { Engine } from '../../src/engine/port.ts';
import { type RequestParts, request, submitted } from '../kit/fake-engine.ts';

/** What an implementation offers to be tested with. */
export interface EngineSubject {
  readonly engine: Engine;
  /** Digests of at least two adapters that can be loaded and that change the output. */
  readonly adapters: readonly string[];
  /** A digest whose load fails. */
  readonly missingAdapter: string;
  /** Prompts of different lengths, at least three. */
  readonly prompts: readonly (readonly number[])[];
}

export interface EngineSubjectOptions {
  /** Rows of a step. */
  readonly maxBatch?: number;
  readonly maxQueue?: number;
}

/**
 * What every implementation of `Engine` owes, whatever runs behind it. Knows no logits: tokens are only compared
 * with those of the same request alone. The suite closes every engine that it makes.
 *
 * @param make returns a new engine each time, with the given bounds
 */
export function engineConformance(
  name: string,
  make: (options: EngineSubjectOptions) => Promise<EngineSubject>,
): void {
  const using = async (
    options: EngineSubjectOptions,
    run: (subject: EngineSubject) => Promise<void>,
  ): Promise<void> => {
    const subject = await make(options);
    try {
      await run(subject);
    } finally {
      await subject.engine.close({ graceMs: 0 });
    }
  };
  const cases = ({ adapters, prompts }: EngineSubject): RequestParts[] => {
    const [a = '', b = ''] = adapters;
    const mixes = [
      [],
      [{ digest: a, weight: 1 }],
      [{ digest: b, weight: 1 }],
      [
        { digest: a, weight: 0.5 },
        { digest: b, weight: -0.25 },
      ],
    ];
    const stop = { maxTokens: 5 };
    return prompts.flatMap((promptIds, index) =>
      mixes.flatMap((uses) => [
        { promptIds, adapters: uses, stop },
        { promptIds, adapters: uses, stop, sampling: { temperature: 0.9, topK: 20, seed: index } },
      ]),
    );
  };

  describe(`Engine conformance: ${name}`, () => {
    test('tokens come in order, then exactly one end with matching usage', () =>
      using({}, async ({ engine, prompts }) => {
        const promptIds = prompts[0] ?? [];
        const recording = await submitted(
          engine,
          request({ promptIds, stop: { maxTokens: 5 }, topLogprobs: 3 }),
        );
        const end = await recording.ended;
        expect(end.reason).toBe('length');
        expect(end.error).toBeUndefined();
        expect(recording.tokens).toHaveLength(5);
        expect(end.usage).toMatchObject({
          promptTokens: promptIds.length,
          completionTokens: 5,
          bytesLoaded: 0,
        });
        expect(recording.events.at(-1)).toBe(end);
        for (const event of recording.events) {
          if (event.kind !== 'tokens') continue;
          for (const { id, logprob, top = [] } of event.tokens) {
            expect(logprob).toBeLessThanOrEqual(0);
            expect(top).toHaveLength(3);
            expect(top[0]).toEqual({ id, logprob });
          }
        }
      }));

    test('a mixed batch gives each sequence the tokens that it gets alone', () =>
      using({}, async (subject) => {
        const { engine } = subject;
        const alone: number[][] = [];
        for (const parts of cases(subject)) {
          const recording = await submitted(engine, request(parts));
          await recording.ended;
          alone.push(recording.tokens);
        }
        const together = await Promise.all(cases(subject).map((parts) => submitted(engine, request(parts))));
        const ends = await Promise.all(together.map(({ ended }) => ended));
        expect(together.map(({ tokens }) => tokens)).toEqual(alone);
        for (const { reason } of ends) expect(reason).toBe('length');
        for (const { ends: count } of together) expect(count).toBe(1);
      }));

    test('cancelling ends a running, a waiting and no unknown sequence', () =>
      using({ maxBatch: 1 }, async ({ engine, prompts }) => {
        const promptIds = prompts[0] ?? [];
        const stop = { maxTokens: engine.info.maxContext - promptIds.length };
        const running = request({ promptIds, stop });
        const waiting = request({ promptIds, stop });
        const first = await submitted(engine, running);
        const second = await submitted(engine, waiting);
        await first.reached(1);
        engine.cancel('unknown');
        engine.cancel(running.id);
        engine.cancel(waiting.id);
        const ends = await Promise.all([first.ended, second.ended]);
        expect(ends.map(({ reason }) => reason)).toEqual(['cancelled', 'cancelled']);
        expect(ends.map(({ usage }) => usage.completionTokens)).toEqual([first.tokens.length, 0]);
        expect(await engine.status()).toMatchObject({ running: 0, waiting: 0, kvBytesUsed: 0 });
      }));

    test('what adapters took of the memory is told once', () =>
      using({}, async ({ engine, adapters, prompts }) => {
        const [digest = ''] = adapters;
        const promptIds = prompts[0] ?? [];
        const used = await submitted(engine, request({ promptIds, adapters: [{ digest, weight: 1 }] }));
        await used.ended;
        const first = await engine.drainResidency();
        const second = await engine.drainResidency();
        const sum = (hours: typeof first, of: 'loads' | 'bytesLoaded') =>
          hours
            .flatMap((hour) => hour.adapters)
            .reduce((total, adapter) => total + (adapter.digest === digest ? adapter[of] : 0n), 0n);
        expect([sum(first, 'loads'), sum(second, 'loads'), sum(second, 'bytesLoaded')]).toEqual([1n, 0n, 0n]);
        expect(sum(first, 'bytesLoaded')).toBeGreaterThan(0n);
        for (const { startMs, aliveUs, capacityByteUs, adapters: taken } of [...first, ...second]) {
          expect(startMs % 3_600_000).toBe(0);
          const held = taken.reduce(
            (total, { hostByteUs, bankByteUs }) => total + hostByteUs + bankByteUs,
            0n,
          );
          expect(held).toBeLessThanOrEqual(capacityByteUs);
          expect(aliveUs).toBeGreaterThanOrEqual(0n);
        }
      }));

    test('an adapter that cannot be loaded ends its sequence and nobody else', () =>
      using({}, async ({ engine, prompts, missingAdapter }) => {
        const promptIds = prompts[0] ?? [];
        const bad = await submitted(
          engine,
          request({ promptIds, adapters: [{ digest: missingAdapter, weight: 1 }] }),
        );
        const good = await submitted(engine, request({ promptIds }));
        const end = await bad.ended;
        expect(end).toMatchObject({ reason: 'error', error: { code: 'ADAPTER_LOAD_FAILED' } });
        expect(bad.tokens).toEqual([]);
        expect((await good.ended).reason).toBe('length');
      }));

    test('refusals carry their code and are followed by no event', () =>
      using({ maxBatch: 1, maxQueue: 1 }, async ({ engine, prompts }) => {
        const promptIds = prompts[0] ?? [];
        const stop = { maxTokens: engine.info.maxContext - promptIds.length };
        const refused = async (parts: RequestParts, expected: object): Promise<void> => {
          await expect(submitted(engine, request(parts))).rejects.toMatchObject(expected);
        };
        await refused({ promptIds: [] }, { code: 'PROMPT_EMPTY', field: 'promptIds' });
        await refused({ promptIds: [engine.info.shape.vocabSize] }, { code: 'TOKEN_OUT_OF_RANGE' });
        await refused({ promptIds, stop: { maxTokens: 1e6 } }, { code: 'PROMPT_TOO_LONG' });
        await refused({ promptIds, adapters: [{ digest: 'x', weight: 0 }] }, { code: 'BLEND_INVALID' });
        const running = request({ promptIds, stop });
        const recording = await submitted(engine, running);
        await expect(submitted(engine, running)).rejects.toMatchObject({ code: 'BAD_INPUT', field: 'id' });
        await recording.reached(1);
        await submitted(engine, request({ promptIds }));
        await refused(
          { promptIds },
          { code: 'ENGINE_FULL', meta: { maxQueue: 1, retryAfterMs: expect.any(Number) } },
        );
      }));

    test('a probe tells an adapter that has an effect from one that cannot be loaded', () =>
      using({}, async ({ engine, prompts, adapters, missingAdapter }) => {
        const promptIds = prompts[0] ?? [];
        const result = await engine.probe(adapters[0] ?? '', promptIds);
        expect(result.finite).toBe(true);
        expect(result.maxAbsDifference).toBeGreaterThan(0);
        await expect(engine.probe(missingAdapter, promptIds)).rejects.toMatchObject({
          code: 'ADAPTER_LOAD_FAILED',
        });
        await expect(engine.probe('x', [])).rejects.toMatchObject({ code: 'PROMPT_EMPTY' });
        expect(await engine.status()).toMatchObject({ tokensGenerated: 0 });
      }));

    test('status counts what was done and who is resident', () =>
      using({}, async ({ engine, prompts, adapters }) => {
        const digest = adapters[0] ?? '';
        const uses = [{ digest, weight: 1 }];
        const parts = { promptIds: prompts[0] ?? [], adapters: uses, stop: { maxTokens: 3 } };
        const recording = await submitted(engine, request(parts));
        const { usage } = await recording.ended;
        const status = await engine.status();
        expect(status).toMatchObject({ running: 0, waiting: 0, waitingForAdapter: 0, tokensGenerated: 3 });
        expect(status.steps).toBeGreaterThanOrEqual(3);
        expect(status.residentAdapters).toEqual([expect.objectContaining({ digest, inUse: 0 })]);
        expect(status.hostCacheBytesUsed).toBe(usage.bytesLoaded);
      }));

    test('closing lets live sequences end within the grace, and refuses new ones', async () => {
      const { engine, prompts } = await make({});
      const promptIds = prompts[0] ?? [];
      const recording = await submitted(engine, request({ promptIds, stop: { maxTokens: 5 } }));
      const closed = engine.close({ graceMs: 60_000 });
      await expect(submitted(engine, request({ promptIds }))).rejects.toMatchObject({
        code: 'SHUTTING_DOWN',
      });
      await closed;
      expect((await recording.ended).reason).toBe('length');
      await engine.close({ graceMs: 0 });
    });

    test('closing without grace cancels what is live', async () => {
      const { engine, prompts } = await make({});
      const promptIds = prompts[0] ?? [];
      const stop = { maxTokens: engine.info.maxContext - promptIds.length };
      const recording = await submitted(engine, request({ promptIds, stop }));
      await recording.reached(1);
      await engine.close({ graceMs: 0 });
      expect((await recording.ended).reason).toBe('cancelled');
      expect(recording.ends).toBe(1);
    });
  });
}
