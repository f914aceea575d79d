import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { AdapterLoader, PackedAdapter } from '../../../src/engine/runner.ts';
import { fakeEngine, nextTurn, request } from '../../kit/fake-engine.ts';
import { fakeAdapter, type ManualClock } from '../../kit/fake-runner.ts';

const SEED = 20_261_125;
const STEP_MS = 10;

/** Loads that take a given time of the manual clock, one after another like the loader's thread. */
class TimedLoader implements AdapterLoader {
  readonly #loadMs: (digest: string) => number;
  readonly #pending: { readonly digest: string; readonly resolve: (adapter: PackedAdapter) => void }[] = [];
  readonly #clock: () => ManualClock;
  #endsMs = Number.POSITIVE_INFINITY;

  constructor(loadMs: (digest: string) => number, clock: () => ManualClock) {
    this.#loadMs = loadMs;
    this.#clock = clock;
  }

  load(digest: string): Promise<PackedAdapter> {
    return new Promise((resolve) => {
      this.#pending.push({ digest, resolve });
      if (this.#pending.length === 1) this.#endsMs = this.#clock().monotonicMs() + this.#loadMs(digest);
    });
  }

  /** Ends the load whose time has come. */
  tick(): void {
    const now = this.#clock().monotonicMs();
    if (now < this.#endsMs) return;
    const done = this.#pending.shift();
    done?.resolve(fakeAdapter(done.digest));
    const next = this.#pending[0];
    this.#endsMs = next === undefined ? Number.POSITIVE_INFINITY : now + this.#loadMs(next.digest);
  }

  async close(): Promise<void> {}
}

interface Scene {
  /** Tokens that others generate beside it, and in which turn each of them arrives. */
  readonly others: readonly { readonly tokens: number; readonly turn: number }[];
  readonly turn: number;
  readonly loadMs: number;
}

/** Time to the first token of a request whose adapter is cold, or in memory, amid others. */
async function ttftMs({ others, turn, loadMs }: Scene, adapter: 'warm' | 'cold'): Promise<number> {
  const loader = new TimedLoader(
    (digest) => (digest === 'cold' ? loadMs : 0),
    () => made.clock,
  );
  const made = fakeEngine({
    runner: { stepMs: STEP_MS, bankPages: 64 },
    engine: { maxBatch: 16 },
    deps: { loader },
  });
  const { engine, clock, runner } = made;
  let ended = 0;
  const submit = async (digest: string, tokens: number, onFirst: () => void): Promise<void> => {
    let first = true;
    const stop = { maxTokens: tokens };
    await engine.submit(request({ adapters: [{ digest, weight: 1 }], stop }), ({ kind }) => {
      if (kind === 'end') ended += 1;
      else if (first) onFirst();
      first = false;
    });
  };
  const play = async (until: () => boolean, onTurn: (now: number) => Promise<void>): Promise<void> => {
    for (let now = 0; !until(); now++) {
      await onTurn(now);
      const runs = runner.runs.length;
      await nextTurn();
      // An idle engine's time passes too; a running one's passes with its steps.
      if (runner.runs.length === runs) clock.advance(1);
      loader.tick();
    }
  };
  await submit('warm', 1, () => {});
  await play(
    () => ended === 1,
    async () => {},
  );
  let answer: number | null = null;
  await play(
    () => answer !== null && ended === others.length + 2,
    async (now) => {
      for (const other of others) if (other.turn === now) await submit('warm', other.tokens, () => {});
      if (now !== turn) return;
      const startedMs = clock.monotonicMs();
      await submit(adapter, 1, () => {
        answer = clock.monotonicMs() - startedMs;
      });
    },
  );
  await engine.close({ graceMs: 0 });
  expect(runner.misuses).toEqual([]);
  return answer ?? Number.NaN;
}

test('a cold adapter costs its first token no more than its load and two steps', async () => {
  const scene = fc.record({
    others: fc.array(fc.record({ tokens: fc.integer({ min: 1, max: 40 }), turn: fc.nat(30) }), {
      maxLength: 12,
    }),
    turn: fc.nat(30),
    loadMs: fc.integer({ min: 0, max: 150 }),
  });
  await fc.assert(
    fc.asyncProperty(scene, async (drawn) => {
      const warm = await ttftMs(drawn, 'warm');
      const cold = await ttftMs(drawn, 'cold');
      expect(cold).toBeLessThanOrEqual(warm + drawn.loadMs + 2 * STEP_MS);
      expect(cold).toBeGreaterThanOrEqual(drawn.loadMs);
    }),
    { seed: SEED, numRuns: 60 },
  );
});
