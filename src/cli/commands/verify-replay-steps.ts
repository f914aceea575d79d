import type { Place, Replay, ReplayRun } from '../../replay/replay.ts';
import type { Executed } from '../../verifier/executed.ts';
import { fails, holds, type Step, unchecked } from '../../verifier/step.ts';

/** What a replay is judged by. */
export interface ReplayTerms {
  readonly executed: Executed;
  /** The disclosed tokens of the answer. */
  readonly answer: readonly number[];
  readonly bits: number;
  /** How the answer ended by itself; null when it was cut off, or the receipt does not say. */
  readonly finish: 'stop' | 'length' | null;
  /** Of two tokens whose logits differ by no more, either may be chosen. */
  readonly nearTie: number;
}

/** How what was found compares with the receipt. */
export function replaySteps(found: Replay, terms: ReplayTerms): readonly Step[] {
  return [
    checkBackbone(found, terms),
    ...checkAdapters(found, terms.executed),
    checkTokens(found.run, terms),
    checkEnd(found.run, terms),
  ];
}

function checkBackbone({ backbone }: Replay, { executed, bits }: ReplayTerms): Step {
  const step = 'replay.backbone';
  if (backbone === executed.backbone) return holds(step, `the checkpoint with ${bits} bits is ${backbone}`);
  return fails(
    step,
    `the checkpoint with ${bits} bits is ${backbone}, the receipt names ${executed.backbone}; other --bits give another`,
  );
}

function checkAdapters(found: Replay, { backbone, adapters }: Executed): readonly Step[] {
  return adapters.map(({ digest, weight }, part) => {
    const step = `replay.adapter.${part}`;
    if (found.backbone !== backbone) return unchecked(step, 'an adapter has its digest on its backbone');
    if (found.adapters.includes(digest))
      return holds(step, `a folder holds ${digest}, with weight ${weight}`);
    return fails(step, `the receipt names ${digest}, the folders hold ${found.adapters.join(', ')}`);
  });
}

function checkTokens(run: ReplayRun | null, { answer, nearTie }: ReplayTerms): Step {
  const step = 'replay.tokens';
  if (run === null) return unchecked(step, 'not run: the files are not what the receipt names');
  if (answer.length === 0) return unchecked(step, 'the answer has no tokens');
  const other = run.places.filter(({ given, best }) => given !== best);
  const [first, ...more] = other.filter(({ behind }) => behind > nearTie);
  const unjudged = run.places.find(({ behind }) => Number.isNaN(behind));
  if (first !== undefined) {
    return fails(
      step,
      `${placeText(first)}, where ${nearTie} is a near-tie; ${1 + more.length} of ${answer.length} positions differ by more`,
    );
  }
  if (unjudged !== undefined)
    return unchecked(
      step,
      `at position ${unjudged.at} the scores of this run are not finite, and say nothing`,
    );
  if (run.places.length < answer.length) {
    return fails(step, `the run ended after ${run.places.length} of ${answer.length} tokens`);
  }
  if (other.length === 0) return holds(step, `all ${answer.length} tokens are those of this run`);
  const ties = `${other.length} at near-ties of at most ${nearTie}: ${other.slice(0, 3).map(placeText).join('; ')}`;
  return holds(
    step,
    `${answer.length - other.length} of ${answer.length} tokens are those of this run, ${ties}`,
  );
}

/** Positions count from 0. */
function placeText({ at, given, best, margin, behind }: Place): string {
  if (!Number.isFinite(behind)) return `position ${at} has ${given}, which is not in the vocabulary`;
  return (
    `position ${at} has ${given}, this run ${best}, whose logit is ${shortNumber(behind)} higher ` +
    `(and ${shortNumber(margin)} above the second best)`
  );
}

function checkEnd(run: ReplayRun | null, { answer, finish }: ReplayTerms): Step {
  const step = 'replay.end';
  if (run === null) return unchecked(step, 'not run');
  if (finish === null)
    return unchecked(step, 'the answer was cut off, or the receipt does not say how it ended');
  const here = `${run.tokens > answer.length ? 'goes on' : `ends (${run.reason})`} after ${Math.min(run.tokens, answer.length)} tokens`;
  const wanted = `the answer ended (${finish}) after ${answer.length}`;
  const isSame = run.tokens === answer.length && run.reason === finish;
  return isSame ? holds(step, `${wanted}, and so does this run`) : fails(step, `${wanted}, this run ${here}`);
}

function shortNumber(value: number): string {
  return Number(value.toPrecision(3)).toString();
}
