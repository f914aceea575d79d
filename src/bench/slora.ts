import { draw } from './workload.ts';

/** S-LoRA's synthetic workload (Sheng et al., MLSys 2024, section 7.1). */
export interface SloraLaw {
  /** Registered adapters. */
  readonly adapters: number;
  /** Popularity: adapter ⌊n · power(α)⌋, where power(α) has density α x^(α - 1) on [0, 1); 1 is uniform. */
  readonly alpha: number;
  /** Requests per second, on average. */
  readonly rate: number;
  /** Coefficient of variation of the time between arrivals, which is Gamma distributed; 1 is Poisson arrivals. */
  readonly cv: number;
  /** Bounds of the prompt's tokens and of the tokens to generate, uniform and inclusive. */
  readonly input: readonly [number, number];
  readonly output: readonly [number, number];
  readonly seed: number;
}

export interface SloraRequest {
  /** When it arrives, in milliseconds from the start. */
  readonly atMs: number;
  readonly adapter: number;
  readonly promptTokens: number;
  readonly newTokens: number;
}

/** Draws of one request; a Gamma draw may take any number from {@link FIRST_GAMMA} on. */
const DRAWS = { adapter: 0, input: 1, output: 2 } as const;
const FIRST_GAMMA = 16;
const DRAWS_PER_REQUEST = 512;

/** The first requests of a workload. Only the adapters depend on how many are registered. */
export function sloraRequests(law: SloraLaw, count: number): readonly SloraRequest[] {
  const requests: SloraRequest[] = [];
  let atMs = 0;
  for (let number = 0; number < count; number++) {
    const uniform = (index: number): number => draw(law.seed, number * DRAWS_PER_REQUEST + index);
    const between = ([least, most]: readonly [number, number], index: number): number =>
      least + Math.floor(uniform(index) * (most - least + 1));
    requests.push({
      atMs,
      adapter: Math.floor(law.adapters * uniform(DRAWS.adapter) ** (1 / law.alpha)),
      promptTokens: between(law.input, DRAWS.input),
      newTokens: between(law.output, DRAWS.output),
    });
    // A Gamma law of this shape and scale has mean 1 / rate and the wanted coefficient of variation.
    let index = FIRST_GAMMA;
    const shape = 1 / law.cv ** 2;
    atMs += (gamma(shape, () => uniform(index++)) / (shape * law.rate)) * 1000;
  }
  return requests;
}

/** A draw of the Gamma law with scale 1 (Marsaglia and Tsang, ACM TOMS 2000). */
export function gamma(shape: number, uniform: () => number): number {
  if (shape < 1) return gamma(shape + 1, uniform) * (1 - uniform()) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = normal(uniform);
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - uniform()) < x ** 2 / 2 + d - d * v + d * Math.log(v)) return d * v;
  }
}

/** A draw of the standard normal law (Box and Muller). */
function normal(uniform: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
