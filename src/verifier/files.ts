import { collect, type Dossier, type Named } from './bundle/dossier.ts';
import { type Examination, examine } from './bundle/examine.ts';
import type { Section } from './bundle/sections.ts';
import { type Bundle, openBundle } from './bundle/source.ts';
import { checkOnChain } from './chain/checks.ts';
import { type ChainSource, withChain } from './chain/view.ts';
import { InputError } from './input/errors.ts';
import type { KeyList } from './input/formats.ts';
import { readAddress, readDocument, readFileBytes, readHead, readKeyList } from './input/read.ts';
import { shown } from './shown.ts';
import type { Evidence } from './verify.ts';

/** What the reader names: files, keys that they trust, and a chain. */
export interface Files {
  /** A receipt, or a bundle as a ZIP file or a folder. */
  readonly path: string;
  readonly keys: string | null;
  readonly trust: readonly string[];
  /** Heads that the reader kept, and proofs between heads. */
  readonly heads: readonly string[];
  readonly chain: ChainSource | null;
  /** Addresses of the contracts, when the reader knows them. */
  readonly anchor: string | null;
  readonly distributor: string | null;
}

/** The single receipt that the files are, or null when they are a bundle, or when a chain is asked too. */
export async function singleReceipt(files: Files): Promise<Evidence | null> {
  if (files.chain !== null) return null;
  const bundle = await openBundle(files.path);
  try {
    const [file, ...more] = bundle.files;
    if (file === undefined || more.length > 0 || file.name !== shown(files.path)) return null;
    const receipt = readDocument(await file.read());
    if (receipt.format !== 'patchbay-receipt/1') return null;
    const { keys, heads } = await readApart(files);
    return {
      ...{ receipt, keys: keys?.document ?? null, pinned: files.trust.map(readAddress) },
      heads: heads.map(({ document }) => document),
    };
  } finally {
    await bundle.close();
  }
}

/** Verifies everything that the files have, each by itself and against the others, and against the chain. */
export async function verifyFiles(files: Files, tell: (section: Section) => void): Promise<Examination> {
  const pinned = files.trust.map(readAddress);
  const [anchor, distributor] = [contract(files.anchor), contract(files.distributor)];
  const bundle = await openBundle(files.path);
  try {
    const dossier = await readDossier(bundle, files);
    const found = await examine(dossier, pinned, tell);
    if (files.chain !== null) {
      const { epochs, claims } = found;
      const on = { epochs: epochs.epochs.values(), claims, chains: dossier.chains, anchor, distributor };
      await withChain(files.chain, async (chain) => {
        for await (const section of checkOnChain(on, chain)) tell(section);
      });
    }
    return found;
  } finally {
    await bundle.close();
  }
}

async function readDossier(bundle: Bundle, files: Files): Promise<Dossier> {
  const dossier = await collect(bundle, await readApart(files));
  const { epochs, statements, claims, receipts } = dossier;
  if (epochs.length + statements.length + claims.length + receipts.length > 0) return dossier;
  throw new InputError(
    'PROOF_FORMAT',
    `${shown(files.path)} has nothing to verify: neither a receipt nor an epoch, a statement or a claim.`,
    'Give a receipt (patchbay-receipt/1), or a bundle; key lists go to --keys, heads and proofs between heads to --head.',
  );
}

async function readApart({ keys, heads }: Files) {
  const list: Named<KeyList> | null =
    keys === null ? null : { name: shown(keys), document: readKeyList(await readFileBytes(keys)) };
  const kept = [];
  for (const head of heads) kept.push({ name: shown(head), document: readHead(await readFileBytes(head)) });
  return { keys: list, heads: kept };
}

function contract(text: string | null): string | null {
  return text === null ? null : readAddress(text);
}
