import type { PartField } from '../fields.ts';
import type { PriceDocument } from '../input/documents.ts';
import { divide, parseShare, sum } from '../pricing/arithmetic.ts';
import { feeOf, linesOf, type PartTerms } from '../pricing/lines.ts';
import { shown } from '../shown.ts';
import { fails, holds, judged, type Step, unchecked } from '../step.ts';
import { everyPart, type View } from '../view.ts';
import type { Documents } from './documents.ts';

const LINES = ['input', 'cached', 'output', 'rankAmount', 'royalty'] as const;

/** Redoes every amount that the view opens with what it takes to compute it. */
export function checkAmounts(view: View, documents: Documents): readonly Step[] {
  const steps: Step[] = [];
  for (let part = 0; part < view.parts; part++) {
    steps.push(checkLines(view, part, termsOf(view, part, documents)));
    steps.push(checkTotal(view, part), ...checkDivision(view, part, documents));
  }
  if (view.parts > 0) steps.push(checkSum(view));
  return steps;
}

/** What the lines of a part follow from: null without a price, a text when something is missing. */
function termsOf(view: View, part: number, documents: Documents): PartTerms | null | string {
  const [priced, asked] = [view.part(part, 'price'), view.part(part, 'royaltyTerms')];
  const [prompt, cached] = [view.request('promptTokens'), view.request('cachedPromptTokens')];
  const [completion, priority] = [view.request('completionTokens'), view.request('priority')];
  const [share, rank] = [view.part(part, 'share'), view.part(part, 'rank')];
  if (priced === '') return null;
  if (priced === undefined || asked === undefined) return closed(view, part, ['price', 'royaltyTerms']);
  if (prompt === undefined || cached === undefined || completion === undefined)
    return 'token counts are not open';
  if (priority === undefined) return 'priority is not open';
  if (share === undefined || rank === undefined) return closed(view, part, ['share', 'rank']);
  const price = documents.price(priced);
  const royalty = asked === '' ? null : documents.royalty(asked);
  if (price === undefined || royalty === undefined) return 'a document that it names is not given';
  if (BigInt(cached) > BigInt(prompt)) return 'more tokens were reused than the prompt has';
  return {
    counts: { prompt: BigInt(prompt), cached: BigInt(cached), completion: BigInt(completion) },
    share: parseShare(share),
    price,
    multiplier: BigInt(multiplierOf(price, priority)),
    rank: rank === '' ? null : BigInt(rank),
    royalty,
  };
}

/** Says which of some fields of a part are not open. */
function closed(view: View, part: number, fields: readonly PartField[]): string {
  const names = fields.filter((field) => view.part(part, field) === undefined);
  return `${names.join(', ')} ${names.length === 1 ? 'is' : 'are'} not open`;
}

function multiplierOf(price: PriceDocument, priority: string): string {
  if (priority === 'INTERACTIVE') return price.interactivePpm;
  return priority === 'BATCH' ? price.batchPpm : price.standardPpm;
}

function checkLines(view: View, part: number, terms: PartTerms | null | string): Step {
  const step = `part.${part}.lines`;
  if (typeof terms === 'string') return unchecked(step, terms);
  return compare(step, view, part, { names: LINES, due: terms === null ? null : linesOf(terms) });
}

/** Amounts that must be what they are due to be; without a price, they must be empty. */
interface Dues<Name extends PartField> {
  readonly names: readonly Name[];
  readonly due: Readonly<Record<Name, bigint>> | null;
}

/** Compares those of some amounts that are open. Numbers have one spelling, so that texts can be compared. */
function compare<Name extends PartField>(
  step: string,
  view: View,
  part: number,
  { names, due }: Dues<Name>,
): Step {
  const open = names.flatMap((name) => {
    const text = view.part(part, name);
    return text === undefined ? [] : [{ name, text, wanted: due === null ? '' : String(due[name]) }];
  });
  if (open.length === 0) return unchecked(step, closed(view, part, names));
  const wrong = open
    .filter(({ text, wanted }) => text !== wanted)
    .map(({ name, text, wanted }) => `part.${part}.${name} is ${shown(text)}, but must be ${shown(wanted)}`);
  const compared =
    due === null
      ? 'without a price nothing is due'
      : open.map(({ name, text }) => `${name} ${text}`).join(', ');
  return judged(step, wrong, compared);
}

function checkTotal(view: View, part: number): Step {
  const step = `part.${part}.total`;
  const total = view.part(part, 'total');
  const lines = LINES.flatMap((name) => view.part(part, name) ?? []);
  if (total === undefined || lines.length < LINES.length)
    return unchecked(step, closed(view, part, ['total', ...LINES]));
  return checkAddition(step, total, lines, 'the sum of its lines');
}

/** Checks a sum. Where nothing is due, neither the sum nor what it is made of is there. */
function checkAddition(step: string, total: string, of: readonly string[], what: string): Step {
  const wanted = of.every((text) => text === '') ? '' : String(sum(of.map(BigInt)));
  if (total !== wanted) return fails(step, `${shown(total)} is not ${what}, ${shown(wanted)}`);
  return holds(step, total === '' ? 'without a price nothing is due' : `${total} is ${what}`);
}

/** The platform's fee, and what each beneficiary is due of the rest. */
function checkDivision(view: View, part: number, documents: Documents): readonly Step[] {
  const [royalty, fee, priced] = [
    view.part(part, 'royalty'),
    view.part(part, 'fee'),
    view.part(part, 'price'),
  ];
  const step = `part.${part}.fee`;
  if (royalty === undefined || fee === undefined || priced === undefined) {
    return [unchecked(step, closed(view, part, ['fee', 'royalty', 'price']))];
  }
  if (priced === '') return [compare(step, view, part, { names: ['fee'], due: null })];
  const price = documents.price(priced);
  if (price === undefined) return [unchecked(step, 'the price that it names is not given')];
  const due = feeOf(BigInt(royalty), price);
  const found = compare(step, view, part, { names: ['fee'], due: { fee: due } });
  return found.result === 'true'
    ? [found, checkSplit(view, part, BigInt(royalty) - due, documents)]
    : [found];
}

function checkSplit(view: View, part: number, earned: bigint, documents: Documents): Step {
  const step = `part.${part}.split`;
  const named = view.part(part, 'split');
  if (named === undefined) return unchecked(step, 'the split is not open');
  if (named === '') return holds(step, earned === 0n ? 'nothing is earned' : `${earned} for the owner alone`);
  const split = documents.split(named);
  if (split === undefined) return unchecked(step, 'the split that it names is not given');
  const amounts = divide(
    earned,
    split.beneficiaries.map(({ parts }) => BigInt(parts)),
  );
  const rows = split.beneficiaries.map(({ tenant }, place) => `${tenant} ${amounts[place]}`);
  // What each earns of this receipt: no field says it, and accounts sum it up.
  return holds(step, `${earned} by largest remainder: ${rows.join(', ')}`);
}

function checkSum(view: View): Step {
  const [amount, totals] = [view.request('amount'), everyPart(view, 'total')];
  if (amount === undefined || totals === undefined) {
    return unchecked('amount', 'the amount or the total of a part is not open');
  }
  return checkAddition('amount', amount, totals, 'the sum of the parts, in nano-units');
}
