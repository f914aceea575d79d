import { fieldAt, partsOf } from '../fields.ts';
import { commitmentOf } from '../hashing/body.ts';
import type { OpenedField, Receipt } from '../input/formats.ts';
import { shown } from '../shown.ts';
import { fails, holds, judged, type Step, unchecked } from '../step.ts';
import { type View, viewOf } from '../view.ts';

/** Checks the fields that are opened; the view has those that are confirmed. */
export function checkOpened(receipt: Receipt): { readonly view: View; readonly steps: readonly Step[] } {
  const { commitments, opened } = receipt;
  const parts = partsOf(commitments.length);
  const number =
    parts === null
      ? fails('fields', `${commitments.length} fields are not 16 and 17 for each part`)
      : holds('fields', `${commitments.length} fields are 16 and 17 for each of ${parts} parts`);
  const wrong: string[] = [];
  const values = new Map<string, string>();
  for (const field of opened) {
    const fault = faultOf(field, commitments);
    if (fault === null) values.set(field.name, field.value);
    else wrong.push(fault);
  }
  const step =
    opened.length === 0
      ? unchecked('opened', 'no field is open, so nothing is said of who, what or how much')
      : judged(
          'opened',
          wrong,
          `${opened.length} of ${commitments.length} fields have their names, forms and commitments`,
        );
  const view = viewOf(parts ?? 0, values);
  return { view, steps: [number, step, ...checkSense(view, opened.length > 0)] };
}

function faultOf({ index, name, salt, value }: OpenedField, commitments: readonly string[]): string | null {
  const commitment = commitments[index];
  const field = fieldAt(index);
  if (commitment === undefined || field === null) return `field ${index} does not exist`;
  if (name !== field.name) return `field ${index} is ${field.name}, not ${shown(name)}`;
  const found = commitmentOf(index, salt, value);
  if (found !== commitment) return `${name} and its salt give ${found}, but the commitment is ${commitment}`;
  return field.form(value) ? null : `${name} cannot be ${shown(value)}`;
}

/** What values say of each other, whoever is asked for how much. */
function checkSense(view: View, anyOpen: boolean): readonly Step[] {
  if (!anyOpen) return [];
  const wrong = [...requestFaults(view)];
  for (let part = 0; part < view.parts; part++)
    wrong.push(...adapterFaults(view, part), ...priceFaults(view, part));
  return [judged('values', wrong, 'the opened values do not contradict each other')];
}

function* requestFaults(view: View): Generator<string> {
  const [prompt, cached] = [view.request('promptTokens'), view.request('cachedPromptTokens')];
  if (prompt !== undefined && cached !== undefined && BigInt(cached) > BigInt(prompt)) {
    yield `${cached} prompt tokens were reused, but the prompt has ${prompt}`;
  }
  const [currency, amount] = [view.request('currency'), view.request('amount')];
  if (currency !== undefined && amount !== undefined && (currency === '') !== (amount === '')) {
    yield `the amount is ${shown(amount)}, but the currency ${shown(currency)}`;
  }
}

/** An adapter has all of these, and the plain backbone none. */
const OF_ADAPTERS = ['digest', 'weight', 'owner', 'counter'] as const;
const ONLY_OF_ADAPTERS = ['rank', 'royaltyTerms', 'split'] as const;

function* adapterFaults(view: View, part: number): Generator<string> {
  const version = view.part(part, 'version');
  if (version === undefined) return;
  const before = view.part(part - 1, 'version');
  if (version === '' && view.parts > 1)
    yield `part ${part} is the plain backbone, which is no part of a blend`;
  if (before !== undefined && before >= version)
    yield `the version of part ${part} does not follow that of the part before`;
  for (const field of OF_ADAPTERS) {
    const value = view.part(part, field);
    if (value !== undefined && (value === '') !== (version === '')) {
      yield `part.${part}.${field} is ${shown(value)}, but the version ${shown(version)}`;
    }
  }
  for (const field of ONLY_OF_ADAPTERS) {
    if (version === '' && (view.part(part, field) ?? '') !== '')
      yield `part.${part}.${field} is of no adapter`;
  }
}

/** A part with a price has all of these, and one without a price none. */
const PRICED = ['price', 'input', 'cached', 'output', 'rankAmount', 'royalty', 'fee', 'total'] as const;
const ONLY_PRICED = ['rank', 'royaltyTerms', 'split'] as const;

function* priceFaults(view: View, part: number): Generator<string> {
  const currency = view.request('currency');
  if (currency === undefined) return;
  for (const field of PRICED) {
    const value = view.part(part, field);
    if (value !== undefined && (value === '') !== (currency === '')) {
      yield `part.${part}.${field} is ${shown(value)}, but the currency ${shown(currency)}`;
    }
  }
  for (const field of ONLY_PRICED) {
    if (currency === '' && (view.part(part, field) ?? '') !== '')
      yield `part.${part}.${field} is of no price`;
  }
  const [version, rank] = [view.part(part, 'version') ?? '', view.part(part, 'rank')];
  if (currency !== '' && version !== '' && rank === '')
    yield `part.${part}.rank is empty, but an adapter is charged`;
}
