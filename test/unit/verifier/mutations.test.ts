import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/verifier/input/errors.ts';
import { readHead, readKeyList, readReceipt } from '../../../src/verifier/input/read.ts';
import { at, bent, bytesOf, faults, type Json, leavesOf, vector, viewed } from './vectors.ts';

/** A digit and a letter of the text, each turned into another digit, another letter and one of the other class. */
function* flips(text: string): Generator<string> {
  const start = text.startsWith('0x') ? 2 : 0;
  for (const [kind, others] of [
    [/[0-9]/, '09af'],
    [/[a-f]/, 'fa90'],
  ] as const) {
    // The last one of the kind; the first would only ever test the highest bits.
    const index = [...text].findLastIndex((digit, place) => place >= start && kind.test(digit));
    const digit = text[index];
    if (digit === undefined) continue;
    for (const other of [...others].filter((one) => one !== digit).slice(0, 2)) {
      yield text.slice(0, index) + other + text.slice(index + 1);
    }
  }
}

/** Texts that are written another way, or are something else; few of them fit a format. */
function* respelt(text: string): Generator<string> {
  yield* [
    `${text}0`,
    `0${text}`,
    text.slice(0, -1),
    `-${text}`,
    `+${text}`,
    ` ${text}`,
    '',
    `${text}\u0000`,
    `${text}.0`,
  ];
  if (text !== text.toUpperCase()) yield text.toUpperCase();
  if (/^(?:0|[1-9][0-9]*)$/.test(text)) {
    yield String(BigInt(text) + 1n);
    if (text !== '0') yield String(BigInt(text) - 1n);
    yield String(BigInt(text) + 2n ** 64n);
  }
}

/** A way to bend documents, and what a verifier says of the result. */
interface Bending {
  readonly verdict: (bent: Json) => readonly string[];
  /** Whether a bent document is refused as unusable, which takes far less time to find out than that it is false. */
  readonly refused: (bent: Json) => boolean;
  /** Of the changes that can still be read, how many of each place are verified, in turn. */
  readonly each: number;
  readonly only?: RegExp;
}

/** Bends every text and number of a document, each by itself, and lists what is verified all the same. */
function survivors(document: Json, { verdict, refused, each, only = /./ }: Bending): readonly string[] {
  const found: string[] = [];
  let turn = 0;
  for (const { place, value } of leavesOf(document)) {
    if (!only.test(place.join('.'))) continue;
    const others: readonly Json[] =
      typeof value === 'number'
        ? [value + 1, value - 1, value + 0.5, value + 65_536, -1, String(value), null]
        : [...flips(String(value)), ...respelt(String(value)), 7, null, []];
    const usable = others
      .filter((other) => other !== value)
      .map((other) => ({ other, document: bent(document, place, other) }))
      .filter((bending) => !refused(bending.document));
    const picked = usable.filter((_, index) => (index + turn) % Math.ceil(usable.length / each) === 0);
    for (const bending of picked) {
      if (verdict(bending.document).length > 0) continue;
      found.push(`${place.join('.')}: ${JSON.stringify(value)} as ${JSON.stringify(bending.other)}`);
    }
    turn++;
  }
  return found;
}

const isRefused = (read: (source: ReturnType<typeof bytesOf>) => unknown) => (document: Json) => {
  try {
    read(bytesOf(document));
    return false;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    return true;
  }
};

describe('no text or number can be changed', () => {
  test('in a receipt', () => {
    const { keys } = vector('adapter');
    // A receipt that the log does not have yet has one signature, and so takes little time.
    const verdict = (receipt: Json): readonly string[] => faults({ receipt, keys });
    // Of the commitments and salts, which are all alike, every fifth.
    const only = /^(?!commitments\.\d*[1-46-9]$|opened\.\d*[1-46-9]\.salt)/;
    const bending = { verdict, refused: isRefused(readReceipt), each: 1, only };
    expect(survivors(viewed(vector('adapter')), bending)).toEqual([]);
  });

  test('in what an owner sees of price, royalty, split and amounts', () => {
    const { keys } = vector('ties');
    const verdict = (receipt: Json): readonly string[] => faults({ receipt, keys });
    const bending = {
      verdict,
      refused: isRefused(readReceipt),
      each: 1,
      only: /^documents|^opened\.\d+\.value/,
    };
    expect(survivors(viewed(vector('ties'), 'owner'), bending)).toEqual([]);
  });

  test('in its places in the batch and in the log', () => {
    const { keys } = vector('batch');
    const verdict = (receipt: Json): readonly string[] => faults({ receipt, keys });
    const bending = {
      verdict,
      refused: isRefused(readReceipt),
      each: 2,
      only: /^(?:log|id|batch|inclusion)/,
    };
    expect(survivors(viewed(vector('batch'), 'tenant', 1), bending)).toEqual([]);
  });

  test('in a consistency proof', () => {
    const { keys, consistency } = vector('log-7');
    const receipt = viewed(vector('log-7'));
    const verdict = (head: Json): readonly string[] => faults({ receipt, keys, heads: [head] });
    const bending = { verdict, refused: isRefused(readHead), each: 2 };
    expect(survivors(consistency[6] ?? null, bending)).toEqual([]);
  });

  test('in a list of keys, but for what no signature covers', () => {
    const { keys, consistency } = vector('rotation');
    const receipt = viewed(vector('rotation'));
    const verdict = (bent: Json): readonly string[] =>
      faults({ receipt, keys: bent, heads: consistency.slice(1) });
    const found = survivors(keys, { verdict, refused: isRefused(readKeyList), each: 2 });
    const unsigned = /^keys\.0\.validFrom|^keys\.[012]\.validUntil/;
    expect(found.filter((survivor) => !unsigned.test(survivor))).toEqual([]);
  });
});

const blend = vector('blend');

describe('what is moved or repeated is found', () => {
  const tenant = viewed(blend);
  const fault = (receipt: Json): readonly string[] => faults({ receipt, keys: blend.keys });
  const swapped = (document: Json, list: readonly string[], one: number, other: number): Json =>
    bent(
      bent(document, [...list, one], at(document, ...list, other)),
      [...list, other],
      at(document, ...list, one),
    );

  test('two values, salts or names change places', () => {
    for (const member of ['value', 'salt', 'name', 'index']) {
      const one = at(tenant, 'opened', 5, member);
      const other = at(tenant, 'opened', 7, member);
      const receipt = bent(bent(tenant, ['opened', 5, member], other), ['opened', 7, member], one);
      expect(fault(receipt)).toContain(member === 'index' ? 'PROOF_FORMAT' : 'opened');
    }
  });

  test('two commitments, opened fields or hashes of a path change places', () => {
    expect(fault(swapped(tenant, ['commitments'], 5, 7))).toEqual(
      expect.arrayContaining(['opened', 'batch.signature']),
    );
    expect(fault(swapped(tenant, ['opened'], 5, 7))).toEqual(['PROOF_FORMAT']);
    const seven = viewed(vector('log-7'));
    const moved = swapped(seven, ['inclusion', 'path'], 0, 1);
    expect(faults({ receipt: moved, keys: vector('log-7').keys })).toEqual(['inclusion']);
  });

  test('a field is opened twice, or with the value of another receipt', () => {
    const fields = at(tenant, 'opened');
    if (!Array.isArray(fields)) throw new Error('No fields are open.');
    expect(fault(bent(tenant, ['opened'], [...fields.slice(0, 3), ...fields.slice(2)]))).toEqual([
      'PROOF_FORMAT',
    ]);
    const other = at(viewed(vector('adapter')), 'opened', 5);
    expect(fault(bent(tenant, ['opened', 5], other))).toContain('opened');
  });

  test('fields or hashes are too few or too many', () => {
    const commitments = at(tenant, 'commitments');
    const path = at(tenant, 'inclusion', 'path');
    if (!Array.isArray(commitments) || !Array.isArray(path)) throw new Error('There are no lists.');
    const extra = commitments[0] ?? '';
    for (const list of [commitments.slice(0, -1), [...commitments, extra], commitments.slice(0, 16)]) {
      expect(fault(bent(tenant, ['commitments'], list))).toEqual(
        expect.arrayContaining(['fields', 'batch.signature']),
      );
    }
    // Seventeen fields less are a whole part less, so the number alone does not tell.
    expect(fault(bent(tenant, ['commitments'], commitments.slice(0, -17)))).toContain('batch.signature');
    for (const list of [path.slice(0, -1), path.slice(1), [...path, extra], [extra, ...path]]) {
      expect(fault(bent(tenant, ['inclusion', 'path'], list))).toContain('inclusion');
      expect(fault(bent(tenant, ['batch', 'path'], list))).toContain('batch');
    }
  });

  test('a member is missing, or there is one more', () => {
    for (const place of [
      [],
      ['batch'],
      ['inclusion'],
      ['inclusion', 'head'],
      ['opened', 0],
      ['documents', 0],
    ]) {
      for (const name of ['extra', '__proto__', 'constructor', 'toString']) {
        const more = JSON.parse(JSON.stringify(tenant));
        Object.defineProperty(at(more, ...place), name, { value: 'x', enumerable: true });
        expect(fault(more)).toEqual(['PROOF_FORMAT']);
      }
      for (const name of Object.keys(at(tenant, ...place) ?? {})) {
        expect(fault(bent(tenant, [...place, name], undefined))).toEqual(['PROOF_FORMAT']);
      }
    }
  });

  test('documents are others, missing, too many or twice', () => {
    const documents = at(tenant, 'documents');
    if (!Array.isArray(documents)) throw new Error('There are no documents.');
    const [first = null] = documents;
    const strange = at(viewed(vector('plain')), 'documents', 0);
    for (const list of [[], documents.slice(1), [...documents, strange], [...documents, first], [strange]]) {
      expect(fault(bent(tenant, ['documents'], list))).toContain('documents');
    }
  });
});
