import { PRIORITY_CLASSES, type PriorityClass } from '../../kernel/priority.ts';
import { Random } from '../sim/random.ts';
import { draw, prompts } from '../workload.ts';
import type { PointJob, PointSpec } from './schema.ts';

/** One request of the load, the same for every system that is measured. */
export interface DiversityRequest {
  readonly number: number;
  readonly adapter: number;
  readonly priority: PriorityClass;
  readonly promptIds: readonly number[];
  readonly newTokens: number;
}

/** Rounds see other requests, so that a median is not one over the same draw; the systems of a round see the same. */
const ROUND_STRIDE = 1_000;

/** The requests of a point: distinct prompts of one length, adapters by the law, priorities at random. */
export function diversityRequests(
  { spec, round, load }: PointJob,
  vocabSize: number,
): readonly DiversityRequest[] {
  const seed = load.seed + round * ROUND_STRIDE;
  const promptOf = prompts(seed, load.promptTokens, vocabSize);
  const adapters = adapterDraws(spec, seed, spec.requests);
  return adapters.map((adapter, number) => ({
    number,
    adapter,
    priority: priorityOf(spec, seed, number),
    promptIds: promptOf(number),
    newTokens: load.newTokens,
  }));
}

/** Adapters of as many requests as wanted. */
export function adapterDraws(
  { adapters, law }: Pick<PointSpec, 'adapters' | 'law'>,
  seed: number,
  requests: number,
): readonly number[] {
  const random = new Random(seed);
  return Array.from({ length: requests }, () => random.zipf(adapters, law === 'zipf' ? 1 : 0));
}

function priorityOf({ priorities }: PointSpec, seed: number, number: number): PriorityClass {
  if (priorities === 'one') return 'STANDARD';
  return PRIORITY_CLASSES[Math.floor(draw(seed + 7, number) * PRIORITY_CLASSES.length)] ?? 'STANDARD';
}

/** What became of a request, as its client saw it. */
export interface Served {
  readonly ttftMs: number;
  readonly gapsMs: readonly number[];
  readonly tokens: number;
}

export interface LoopResult {
  readonly elapsedMs: number;
  readonly served: readonly { readonly request: DiversityRequest; readonly served: Served }[];
}

/** Keeps `streams` requests in flight until all have been served. */
export async function closedLoop(
  requests: readonly DiversityRequest[],
  streams: number,
  serve: (request: DiversityRequest) => Promise<Served>,
): Promise<LoopResult> {
  const done: { request: DiversityRequest; served: Served }[] = [];
  const waiting = requests.values();
  const started = performance.now();
  const stream = async (): Promise<void> => {
    // The streams share one iterator, so each takes the next request that nobody has.
    for (const request of waiting) done.push({ request, served: await serve(request) });
  };
  await Promise.all(Array.from({ length: streams }, stream));
  return { elapsedMs: performance.now() - started, served: done };
}
