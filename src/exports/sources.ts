import { PatchbayError } from '../kernel/errors.ts';
import type { Source } from './source.ts';
import { charges } from './sources/charges.ts';
import { creditNotes } from './sources/credit-notes.ts';
import { invoices } from './sources/invoices.ts';
import { ledger } from './sources/ledger.ts';
import { payouts } from './sources/payouts.ts';
import { usage } from './sources/usage.ts';

/** Everything that can be exported, by name. A source that is added here is documented and offered everywhere. */
export const SOURCES = {
  usage,
  charges,
  ledger,
  invoices,
  credit_notes: creditNotes,
  payouts,
} as const satisfies Readonly<Record<string, Source>>;
export type SourceName = keyof typeof SOURCES;
export const SOURCE_NAMES: readonly SourceName[] = [
  'usage',
  'charges',
  'ledger',
  'invoices',
  'credit_notes',
  'payouts',
];

/** Finds the source, or throws `BAD_INPUT` that names those that there are. */
export function requireSource(name: string): { readonly name: SourceName; readonly source: Source } {
  const found = SOURCE_NAMES.find((one) => one === name);
  if (found !== undefined) return { name: found, source: SOURCES[found] };
  throw new PatchbayError('BAD_INPUT', `There is no source ${JSON.stringify(name)} to export.`, {
    field: 'source',
    fix: `Use one of ${SOURCE_NAMES.join(', ')}.`,
  });
}
