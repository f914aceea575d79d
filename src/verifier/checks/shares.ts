import { weightOf } from '../fields.ts';
import { addUpToOne, parseShare, sameRatio, sharesOfWeights } from '../pricing/arithmetic.ts';
import { brief } from '../shown.ts';
import { judged, type Step, unchecked } from '../step.ts';
import { everyPart, type View } from '../view.ts';

/** Checks that the shares add up to one, and that they follow from the weights. */
export function checkShares(view: View): readonly Step[] {
  if (view.parts === 0) return [];
  const texts = everyPart(view, 'share');
  if (texts === undefined) return [unchecked('shares', 'not all shares are open')];
  const shares = texts.map(parseShare);
  const wrong: string[] = addUpToOne(shares) ? [] : [`${list(texts)} do not add up to one`];
  const sum = judged('shares', wrong, `${list(texts)} add up to one`);
  const digits = everyPart(view, 'weight');
  if (digits === undefined) return [sum, unchecked('weights', 'not all weights are open')];
  // The plain backbone has no weight, and the whole of the request.
  const weights = digits.map((text) => (text === '' && digits.length === 1 ? 1 : weightOf(text)));
  return [
    sum,
    judged(
      'weights',
      [...weightFaults(shares, weights, texts)],
      `the shares are those of the weights ${list(weights)}`,
    ),
  ];
}

function* weightFaults(
  shares: readonly ReturnType<typeof parseShare>[],
  weights: readonly number[],
  texts: readonly string[],
): Generator<string> {
  const [idle] = [...weights.keys()].filter((part) => !weights[part]);
  if (idle !== undefined) {
    yield `the engine did not execute part ${idle}`;
    return;
  }
  const expected = sharesOfWeights(weights);
  for (const [part, share] of shares.entries()) {
    const due = expected[part];
    if (due !== undefined && !sameRatio(share, due)) {
      yield `part.${part}.share is ${brief(texts[part] ?? '')}, but the weights give ${brief(`${due.over}/${due.under}`)}`;
    }
  }
}

const MOST_LISTED = 8;

function list(values: readonly (string | number)[]): string {
  const more = values.length > MOST_LISTED ? ' …' : '';
  return `${values.slice(0, MOST_LISTED).map(String).map(brief).join(' ')}${more}`;
}
