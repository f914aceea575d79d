/** One position of an answer, as a backbone sees it after everything before it. */
export interface Position {
  /** Log-probability of the answer's token. */
  readonly logprob: number;
  /** The likeliest token. */
  readonly best: number;
  /** Log-probabilities of the whole vocabulary. */
  readonly distribution: Float64Array;
}

/** How far a backbone of fewer bits is from the one of 32, over positions of answers. */
export interface Distance {
  /** Mean Kullback-Leibler divergence from the 32-bit distribution, in nats. */
  readonly meanKl: number;
  readonly meanLogprobDifference: number;
  readonly maxLogprobDifference: number;
  /** Share of positions at which both hold the same token likeliest. */
  readonly sameBest: number;
}

/** Reads a position off the logits, in float64. */
export function position(logits: Float32Array, token: number): Position {
  const distribution = Float64Array.from(logits);
  let max = Number.NEGATIVE_INFINITY;
  let best = 0;
  distribution.forEach((logit, index) => {
    if (logit <= max) return;
    max = logit;
    best = index;
  });
  const total = distribution.reduce((sum, logit) => sum + Math.exp(logit - max), 0);
  const shift = max + Math.log(total);
  distribution.forEach((logit, index) => {
    distribution[index] = logit - shift;
  });
  return { logprob: distribution[token] ?? Number.NaN, best, distribution };
}

/** Perplexity over positions: the exponential of the mean negative log-probability. */
export function perplexity(positions: readonly Pick<Position, 'logprob'>[]): number {
  return Math.exp(-mean(positions.map(({ logprob }) => logprob)));
}

/** Compares positions with those of the reference at the same places. */
export function distance(reference: readonly Position[], positions: readonly Position[]): Distance {
  const pairs = positions.map((own, index) => {
    const other = reference[index];
    if (other === undefined) throw new Error('there are as many positions as in the reference');
    return { own, other };
  });
  const differences = pairs.map(({ own, other }) => Math.abs(own.logprob - other.logprob));
  return {
    meanKl: mean(pairs.map(({ own, other }) => divergence(other.distribution, own.distribution))),
    meanLogprobDifference: mean(differences),
    maxLogprobDifference: differences.reduce((max, difference) => Math.max(max, difference), 0),
    sameBest: mean(pairs.map(({ own, other }) => (own.best === other.best ? 1 : 0))),
  };
}

function divergence(from: Float64Array, to: Float64Array): number {
  return from.reduce((sum, logprob, index) => sum + Math.exp(logprob) * (logprob - (to[index] ?? 0)), 0);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
