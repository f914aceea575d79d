import type { Named } from '../../../src/verifier/bundle/dossier.ts';
import { collect } from '../../../src/verifier/bundle/dossier.ts';
import { type Examination, examine } from '../../../src/verifier/bundle/examine.ts';
import type { Section } from '../../../src/verifier/bundle/sections.ts';
import type { Bundle } from '../../../src/verifier/bundle/source.ts';
import { audit } from '../../../src/verifier/findings/audit.ts';
import type { Finding } from '../../../src/verifier/findings/finding.ts';
import { InputError } from '../../../src/verifier/input/errors.ts';
import type { Consistency, KeptHead } from '../../../src/verifier/input/formats.ts';
import { readHead } from '../../../src/verifier/input/read.ts';
import { isVerified } from '../../../src/verifier/report.ts';
import { bytesOf, type Json, type Vector } from './vectors.ts';

/** Documents by the names that they have in a bundle. */
export type Documents = Readonly<Record<string, Json>>;

/** Documents as a bundle that is in memory. */
export function bundleOf(documents: Documents): Bundle {
  const files = Object.entries(documents).map(([name, document]) => ({
    name,
    read: () => Promise.resolve({ ...bytesOf(document), name }),
  }));
  return { files, close: () => Promise.resolve() };
}

/** What is given beside a bundle. */
export interface Beside {
  readonly pinned?: readonly string[];
  /** Heads that the reader kept, by name. */
  readonly kept?: Documents;
}

/** Verifies documents together: their sections, and what is known then. */
export async function examined(
  documents: Documents,
  { pinned = [], kept = {} }: Beside = {},
): Promise<{ readonly sections: readonly Section[]; readonly found: Examination }> {
  const heads: Named<KeptHead | Consistency>[] = Object.entries(kept).map(([name, document]) => ({
    name,
    document: readHead(bytesOf(document)),
  }));
  const sections: Section[] = [];
  const dossier = await collect(bundleOf(documents), { keys: null, heads });
  const found = await examine(dossier, pinned, (section) => sections.push(section));
  return { sections, found };
}

/** Which steps of which documents are false, as `document: step`; or the code with which the documents are refused. */
export async function falseSteps(documents: Documents, beside: Beside = {}): Promise<readonly string[]> {
  try {
    const { sections } = await examined(documents, beside);
    return sections.flatMap(({ document, steps }) =>
      steps.filter(({ result }) => result === 'false').map(({ step }) => `${document ?? 'all'}: ${step}`),
    );
  } catch (error) {
    // Anything else than a typed refusal fails the test that asks.
    if (!(error instanceof InputError)) throw error;
    return [error.code];
  }
}

/** What an audit of an epoch finds in documents. */
export async function audited(
  documents: Documents,
  { epoch, account = null, ...beside }: Beside & { readonly epoch: number; readonly account?: string | null },
): Promise<{ readonly findings: readonly Finding[]; readonly notes: readonly string[] }> {
  const { sections, found } = await examined(documents, beside);
  return audit(
    found,
    sections.filter(({ steps }) => !isVerified(steps)),
    { epoch: BigInt(epoch), account },
  );
}

/** Everything that a vector has as a bundle, for all readers or for one. */
export function wholeBundle(from: Vector, reader = ''): { [name: string]: Json } {
  const named = (kind: string, all: readonly Json[]): [string, Json][] =>
    all.map((document, index) => [`${kind}/${index}`, document]);
  return Object.fromEntries([
    ['keys', from.keys],
    ...named(
      'receipts',
      from.views.filter((view) => view.reader.startsWith(reader)).map(({ document }) => document),
    ),
    ...named('consistency', from.consistency),
    ...named(
      'epochs',
      (from.epochs ?? []).map(({ document }) => document),
    ),
    ...named('statements', from.statements ?? []),
    ...named(
      'claims',
      (from.claims ?? []).map(({ document }) => document),
    ),
  ]);
}
