import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Clock } from '../../kernel/clock.ts';

/** An input of a graph that is timed. */
export type TimedInput =
  | { readonly type: 'float32'; readonly data: Float32Array; readonly dims: readonly number[] }
  | { readonly type: 'uint8'; readonly data: Uint8Array; readonly dims: readonly number[] };

export interface TimeGraphOptions {
  /** 0 lets the runtime choose, as for a runner. */
  readonly intraOpThreads: number;
  /** See the runner's option of this name. */
  readonly exactBytes: boolean;
  /** The graph is run until so much time is over, twice at least. */
  readonly forMs: number;
}

/**
 * Runs a small graph again and again in a session of its own, to learn what the machine does at best. The session is
 * closed at the end: its threads would spin beside those of whoever is measured next.
 * @returns the shortest run in milliseconds, for whatever else runs on the machine only ever slows one down
 */
export async function timeGraph(
  model: Uint8Array,
  inputs: Readonly<Record<string, TimedInput>>,
  options: TimeGraphOptions,
  deps: { readonly clock: Clock },
): Promise<number> {
  const session = await InferenceSession.create(model, {
    executionProviders: ['cpu'],
    intraOpNumThreads: options.intraOpThreads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    extra: { session: { x64quantprecision: options.exactBytes ? '0' : '1' } },
  });
  try {
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, tensor(input)]));
    let best = Number.POSITIVE_INFINITY;
    let spentMs = 0;
    for (let runs = 0; runs < 2 || spentMs < options.forMs; runs++) {
      const started = deps.clock.monotonicMs();
      await session.run(feeds);
      const ms = deps.clock.monotonicMs() - started;
      best = Math.min(best, ms);
      spentMs += ms;
    }
    return best;
  } finally {
    await session.release();
  }
}

function tensor(input: TimedInput): Tensor {
  return input.type === 'float32'
    ? new Tensor('float32', input.data, input.dims)
    : new Tensor('uint8', input.data, input.dims);
}
