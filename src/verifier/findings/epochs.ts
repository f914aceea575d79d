import type { Named } from '../bundle/dossier.ts';
import { checkEpoch, epochDigest } from '../checks/epoch.ts';
import type { Trust } from '../checks/keys.ts';
import { rangesText, without } from '../checks/ranges.ts';
import type { Epoch } from '../input/epochs.ts';
import { short } from '../shown.ts';
import { type Finding, shownBy } from './finding.ts';

/** An epoch that the platform signed, with its digest. */
export interface KnownEpoch extends Named<Epoch> {
  readonly number: bigint;
  readonly digest: string;
}

/** Signed epochs by their numbers, ascending, and what contradicts what in them. */
export interface EpochView {
  readonly epochs: ReadonlyMap<bigint, KnownEpoch>;
  readonly findings: readonly Finding[];
  /** Which epochs before the last one are not given. */
  readonly gaps: readonly string[];
}

/** Puts epochs in order. One that is not signed is no evidence; of two with one number, the first is looked at further. */
export function viewEpochs(given: readonly Named<Epoch>[], trust: Trust): EpochView {
  const epochs = new Map<bigint, KnownEpoch>();
  const findings: Finding[] = [];
  for (const { name, document } of given) {
    const [signature] = checkEpoch(document, trust);
    if (signature?.result !== 'true') continue;
    const known = { name, document, number: BigInt(document.epoch.number), digest: epochDigest(document) };
    const other = epochs.get(known.number);
    if (other === undefined) epochs.set(known.number, known);
    else if (other.digest !== known.digest) {
      const message = `epoch ${known.number} was signed with the digests ${short(other.digest)} and ${short(known.digest)}: history was signed anew`;
      findings.push(shownBy([other.name, name], 'EPOCHS_CONTRADICT', message));
    }
  }
  return {
    epochs,
    findings: [...findings, ...brokenChain(epochs), ...falseReleases(epochs)],
    gaps: [...missingEpochs(epochs)],
  };
}

function* missingEpochs(epochs: ReadonlyMap<bigint, KnownEpoch>): Generator<string> {
  const numbers = [...epochs.keys()];
  const last = numbers.at(-1) ?? 0n;
  const missing = without(
    [{ first: 1n, last }],
    numbers.map((number) => ({ first: number, last: number })),
  );
  if (missing.length === 0) return;
  yield `the epochs ${rangesText(missing)} are not given: what follows what, and what was released, is not known across them`;
}

function* brokenChain(epochs: ReadonlyMap<bigint, KnownEpoch>): Generator<Finding> {
  for (const { name, number, document } of epochs.values()) {
    const before = epochs.get(number - 1n);
    if (before === undefined) continue;
    const wrong: string[] = [];
    const { previous, firstSize } = document.epoch;
    if (previous !== before.digest) {
      wrong.push(
        `names ${short(previous)} as the one before, but that has the digest ${short(before.digest)}`,
      );
    }
    if (firstSize !== before.document.epoch.size) {
      wrong.push(`begins at ${firstSize}, but the one before ends at ${before.document.epoch.size}`);
    }
    const [closed, closedBefore] = [document.epoch.closedAt, before.document.epoch.closedAt];
    if (BigInt(closed) < BigInt(closedBefore)) {
      wrong.push(`closed at ${closed}, but the one before at ${closedBefore}`);
    }
    for (const what of wrong)
      yield shownBy([before.name, name], 'EPOCHS_CONTRADICT', `epoch ${number} ${what}`);
  }
}

/** Follows each request that is quarantined through the epochs that are given without a gap. */
function* falseReleases(epochs: ReadonlyMap<bigint, KnownEpoch>): Generator<Finding> {
  const waiting = new Map<string, KnownEpoch>();
  const done = new Map<string, KnownEpoch>();
  for (const known of epochs.values()) {
    const { quarantined, released } = known.document.epoch;
    for (const { request, leaf, epoch } of released) {
      const from = epochs.get(BigInt(epoch));
      const listed = from?.document.epoch.quarantined.find((one) => one.request === request);
      const before = done.get(request);
      if (from !== undefined && listed?.leaf !== leaf) {
        const message = `epoch ${known.number} releases ${short(request)}, which epoch ${epoch} did not quarantine so`;
        yield shownBy([from.name, known.name], 'RELEASE_FALSE', message);
      } else if (before !== undefined && !waiting.has(request)) {
        const message = `epochs ${before.number} and ${known.number} both release ${short(request)}: it is counted twice`;
        yield shownBy([before.name, known.name], 'RELEASE_FALSE', message);
      }
      waiting.delete(request);
      done.set(request, known);
    }
    for (const { request } of quarantined) {
      const before = waiting.get(request);
      if (before !== undefined) {
        const message = `epochs ${before.number} and ${known.number} both quarantine ${short(request)}`;
        yield shownBy([before.name, known.name], 'RELEASE_FALSE', message);
      }
      waiting.set(request, known);
    }
  }
}

/** Where a request was quarantined and not released by any epoch that is given. */
export function quarantineOf(
  request: string,
  epochs: ReadonlyMap<bigint, KnownEpoch>,
): { readonly epoch: KnownEpoch; readonly reason: string } | null {
  let found: { readonly epoch: KnownEpoch; readonly reason: string } | null = null;
  for (const epoch of epochs.values()) {
    const { quarantined, released } = epoch.document.epoch;
    if (released.some((one) => one.request === request)) found = null;
    const listed = quarantined.find((one) => one.request === request);
    if (listed !== undefined) found = { epoch, reason: listed.reason };
  }
  return found;
}
