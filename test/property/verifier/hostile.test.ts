import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/verifier/input/errors.ts';
import { readDocument, readHead, readKeyList, readReceipt } from '../../../src/verifier/input/read.ts';
import { audited, falseSteps, wholeBundle } from '../../unit/verifier/bundles.ts';
import { at, bent, faults, isObject, type Json, vector, viewed } from '../../unit/verifier/vectors.ts';

const SEED = 20_261_129;

/** A value that has no business in a document, and some that nearly have. */
const strange: fc.Arbitrary<Json> = fc.oneof(
  fc.constantFrom<Json>(null, true, 0, -1, 1e300, '', '0', '1', '{}', '\u202e', [], {}, [[[[]]]]),
  fc.string({ maxLength: 80 }),
  fc.stringMatching(/^[0-9a-f]{64}$/),
  fc.stringMatching(/^0x[0-9a-f]{128}1[bc]$/),
  fc.stringMatching(/^(?:0|[1-9][0-9]{0,19})$/),
);

type Place = readonly (string | number)[];

/** Every place of a document, of lists and objects as well. */
function* placesOf(document: Json, before: Place = []): Generator<Place> {
  if (before.length > 0) yield before;
  const entries = Array.isArray(document)
    ? [...document.entries()]
    : isObject(document)
      ? Object.entries(document)
      : [];
  for (const [name, value] of entries) yield* placesOf(value, [...before, name]);
}

/** A change of a document: something else in a place, or what is in another place, or nothing. */
interface Change {
  readonly place: number;
  readonly other: number;
  readonly kind: 'value' | 'copy' | 'remove';
  readonly value: Json;
}
const changes: fc.Arbitrary<readonly Change[]> = fc.array(
  fc.record({
    place: fc.nat(1_000_000),
    other: fc.nat(1_000_000),
    kind: fc.constantFrom('value' as const, 'value' as const, 'copy' as const, 'remove' as const),
    value: strange,
  }),
  { minLength: 1, maxLength: 3 },
);

function changed(document: Json, all: readonly Change[]): Json {
  let found = document;
  for (const { place, other, kind, value } of all) {
    const places = [...placesOf(found)];
    const target = places[place % places.length];
    const source = places[other % places.length];
    if (target === undefined || source === undefined) continue;
    const copy = kind === 'copy' ? structuredClone(at(found, ...source)) : value;
    found = bent(found, target, kind === 'remove' ? undefined : copy);
  }
  return found;
}

/** What a receipt says, without what its holder may leave out or put in another order. */
function meaning(receipt: Json): string {
  if (!isObject(receipt)) return '';
  const { opened: _, inclusion: __, documents: ___, ...rest } = receipt;
  return JSON.stringify(rest);
}

/** Whether a receipt only shows less than another one: fewer fields, or no place in the log. */
function showsLess(less: Json, more: Json): boolean {
  const parts = (document: Json, name: string): readonly string[] => {
    const list = at(document, name);
    return Array.isArray(list) ? list.map((item) => JSON.stringify(item)) : [];
  };
  const within = (name: string): boolean => {
    const all = new Set(parts(more, name));
    return parts(less, name).every((item) => all.has(item));
  };
  const inclusion = at(less, 'inclusion');
  const samePlace = inclusion === null || JSON.stringify(inclusion) === JSON.stringify(at(more, 'inclusion'));
  return meaning(less) === meaning(more) && within('opened') && within('documents') && samePlace;
}

test.each([
  ['plain', 'tenant'],
  ['blend', 'owner'],
  ['erased', 'nobody'],
])('%s as the %s sees it: whatever is changed, it is false or refused by a typed error', (name, reader) => {
  const { keys } = vector(name);
  const receipt = viewed(vector(name), reader);
  let read = 0;
  const property = fc.property(changes, (all) => {
    const other = changed(receipt, all);
    const wrong = faults({ receipt: other, keys });
    if (!wrong.some((fault) => fault.startsWith('PROOF_'))) read++;
    if (wrong.length === 0) expect(showsLess(other, receipt)).toBe(true);
  });
  fc.assert(property, { seed: SEED, numRuns: 120 });
  // Otherwise nothing but the format would have been tried.
  expect(read).toBeGreaterThan(10);
});

test('a proof between heads, or a list of keys, is never accepted when it is changed in what is signed', () => {
  const { keys, consistency } = vector('rotation');
  const receipt = viewed(vector('rotation'));
  const [proof = null] = consistency;
  const property = fc.property(changes, (all) => {
    const head = changed(proof, all);
    if (JSON.stringify(head) !== JSON.stringify(proof)) {
      expect(faults({ receipt, keys, heads: [head] })).not.toEqual([]);
    }
    // Of a list of keys, not everything is signed; but nothing in it may end in another error.
    faults({ receipt, keys: changed(keys, all) });
  });
  fc.assert(property, { seed: SEED, numRuns: 120 });
});

test.each(['epochs/1', 'statements/0', 'statements/6', 'statements/13', 'claims/0', 'consistency/0'])(
  '%s in a bundle: whatever is changed, it is false or refused by a typed error, and an audit does not fail over it',
  async (name) => {
    const given = wholeBundle(vector('epochs'));
    const few = [
      'keys',
      'epochs/0',
      'epochs/1',
      'statements/0',
      'statements/1',
      'receipts/0',
      'receipts/7',
      name,
    ];
    const documents = Object.fromEntries(few.map((one) => [one, given[one] ?? null]));
    const property = fc.asyncProperty(changes, async (all) => {
      const other = changed(given[name] ?? null, all);
      const wrong = await falseSteps({ ...documents, [name]: other });
      if (wrong.some((fault) => fault.startsWith('PROOF_'))) return;
      try {
        await audited({ ...documents, [name]: other }, { epoch: 1 });
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
      }
      // Somebody else without an account may have the same neighbours.
      if (name !== 'statements/13' && JSON.stringify(other) !== JSON.stringify(given[name]))
        expect(wrong).not.toEqual([]);
    });
    await fc.assert(property, { seed: SEED, numRuns: 40 });
  },
);

test('no bytes make the readers fail in another way than by a typed error', () => {
  const text = JSON.stringify(viewed(vector('plain')));
  const cut = fc.nat(text.length).map((length) => text.slice(0, length));
  const spliced = fc
    .record({ place: fc.nat(text.length), length: fc.nat(20), piece: fc.oneof(fc.json(), fc.string()) })
    .map(({ place, length, piece }) => text.slice(0, place) + piece + text.slice(place + length));
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.oneof(cut, spliced, fc.json(), fc.string()).map((other) => new Uint8Array(Buffer.from(other))),
  );
  const property = fc.property(bytes, (given) => {
    for (const read of [readReceipt, readKeyList, readHead, readDocument]) {
      try {
        read({ name: 'x', bytes: given });
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
      }
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 500 });
});
