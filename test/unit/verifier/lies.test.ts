import { describe, expect, test } from 'vitest';
import { forged, type Lie } from './forge.ts';
import { faults, named, stepsOf, vector } from './vectors.ts';

function found(name: string, reader: string, lie: Lie): readonly string[] {
  const given = vector(name);
  return faults({ receipt: forged(given, reader, lie), keys: given.keys });
}

/** An amount of a vector's first receipt, and one nano-unit more. */
function oneMore(name: string, field: string): Lie {
  const value = vector(name).receipts[0]?.fields.find((one) => one.name === field)?.value ?? '';
  return { values: { [field]: String(BigInt(value) + 1n) } };
}

test.each(['adapter', 'blend', 'ties', 'plain', 'recovered'])(
  '%s: an honest receipt, issued anew, is verified',
  (name) => {
    expect(found(name, 'tenant', {})).toEqual([]);
  },
);

describe('one nano-unit too much is found, although it is signed', () => {
  test.each([
    ...['input', 'cached', 'output', 'rankAmount', 'royalty'].flatMap((line) =>
      [0, 1].map((part) => [part, line, [`part.${part}.lines`, `part.${part}.total`]] as const),
    ),
    [0, 'total', ['part.0.total', 'amount']] as const,
    [1, 'total', ['part.1.total', 'amount']] as const,
  ])('part %i: %s', (part, line, wanted) => {
    expect(found('blend', 'tenant', oneMore('blend', `part.${part}.${line}`))).toEqual(wanted);
  });

  test('in the amount', () => {
    expect(found('blend', 'tenant', oneMore('blend', 'amount'))).toEqual(['amount']);
  });

  test('in the fee, which the owner sees and the tenant does not', () => {
    expect(found('blend', 'owner', oneMore('blend', 'part.0.fee'))).toEqual(['part.0.fee']);
    expect(found('blend', 'tenant', oneMore('blend', 'part.0.fee'))).toEqual([]);
  });

  test('in lines that cancel each other out', () => {
    const values = {
      ...oneMore('blend', 'part.0.input').values,
      ...oneMore('blend', 'part.0.output').values,
    };
    const output =
      vector('blend').receipts[0]?.fields.find(({ name }) => name === 'part.0.output')?.value ?? '';
    const lie = { values: { ...values, 'part.0.output': String(BigInt(output) - 1n) } };
    expect(found('blend', 'tenant', lie)).toEqual(['part.0.lines']);
  });

  test('where nothing has a price', () => {
    expect(
      found('recovered', 'tenant', { values: { 'part.0.input': '1', 'part.0.total': '1', amount: '1' } }),
    ).toEqual(['values', 'part.0.lines']);
  });
});

describe('terms that do not give the amounts', () => {
  test.each([
    ['a count of tokens', { values: { completionTokens: '78' } }],
    ['the class', { values: { priority: 'INTERACTIVE' } }],
    ['the rank', { values: { 'part.0.rank': '9' } }],
    ['a price', { documents: { 'part.0.price': { outputPerMillion: '700000008' } } }],
    ['a multiplier', { documents: { 'part.0.price': { batchPpm: '343334' } } }],
    ['a royalty by share', { documents: { 'part.0.royaltyTerms': { sharePpm: '260001' } } }],
    ['a royalty for tokens', { documents: { 'part.1.royaltyTerms': { inputPerMillion: '10010003' } } }],
    ['no royalty', { values: { 'part.0.royaltyTerms': '' } }],
  ] satisfies [string, Lie][])('%s', (_, lie) => {
    expect(found('blend', 'tenant', lie).join()).toMatch(/^(?:part\.\d\.lines,?)+$/);
  });

  test('a fee of another rate', () => {
    expect(found('blend', 'owner', { documents: { 'part.0.price': { platformFeePpm: '133457' } } })).toEqual([
      'part.0.fee',
    ]);
  });

  test('a price in another currency', () => {
    expect(found('plain', 'tenant', { documents: { 'part.0.price': { currency: 'EUR' } } })).toEqual([
      'documents',
    ]);
  });

  test('a document in the place of one of another kind', () => {
    const { documents = [] } = vector('adapter');
    const split = documents.find(({ canonical }) => canonical.includes('split'))?.digest ?? '';
    expect(found('adapter', 'owner', { values: { 'part.0.royaltyTerms': split } })).toEqual(['documents']);
  });

  test('a document that is not given is a fault, and what needs it is not checked', () => {
    const { keys } = vector('plain');
    const receipt = forged(vector('plain'), 'tenant', { values: { 'part.0.price': 'ab'.repeat(32) } });
    const steps = stepsOf({ receipt, keys });
    expect(named(steps, 'false')).toEqual(['documents']);
    expect(named(steps, 'unchecked')).toContain('part.0.lines');
  });
});

describe('shares', () => {
  test('that do not add up to one', () => {
    expect(found('blend', 'tenant', { values: { 'part.0.share': '7/10' } })).toEqual(
      expect.arrayContaining(['shares', 'weights']),
    );
  });

  test('that add up to one and are not those of the weights', () => {
    const values = { 'part.0.share': '2/9', 'part.1.share': '7/9' };
    expect(found('blend', 'tenant', { values })).toEqual(['weights', 'part.0.lines', 'part.1.lines']);
  });

  test('in other terms are the same', () => {
    const values = { 'part.0.share': '14/18', 'part.1.share': '4/18' };
    expect(found('blend', 'tenant', { values })).toEqual([]);
  });

  test('of another weight', () => {
    expect(found('blend', 'tenant', { values: { 'part.0.weight': '3fe6666666666667' } })).toEqual([
      'weights',
    ]);
  });
});

describe('values that contradict each other or cannot be', () => {
  test.each([
    ['more reused tokens than the prompt has', 'blend', { cachedPromptTokens: '1022' }, ['values']],
    ['an adapter version with two parts', 'blend', null, ['values']],
    [
      'the plain backbone in a blend',
      'blend',
      { 'part.0.version': '', 'part.0.digest': '', 'part.0.rank': '' },
      ['values', 'part.0.lines'],
    ],
    ['an adapter without a digest', 'adapter', { 'part.0.digest': '' }, ['values']],
    ['a digest without an adapter', 'plain', { 'part.0.digest': 'ab'.repeat(32) }, ['values']],
    ['a price without a currency', 'plain', { currency: '' }, ['documents', 'values']],
    ['a currency without a price', 'recovered', { currency: 'USD' }, ['values']],
    ['a currency without amounts', 'plain', { amount: '', 'part.0.fee': '' }, ['values', 'amount']],
    ['an amount without a currency', 'recovered', { amount: '0' }, ['values', 'amount']],
    ['a rank without a price', 'recovered', { 'part.0.rank': '8' }, ['values']],
    ['an adapter without a weight', 'adapter', { 'part.0.weight': '' }, ['values']],
    ['an adapter of a blend without a weight', 'blend', { 'part.1.weight': '' }, ['values', 'weights']],
    ['a weight without an adapter', 'plain', { 'part.0.weight': '3ff0000000000000' }, ['values']],
    ['an adapter without a rank', 'adapter', { 'part.0.rank': '' }, ['values', 'part.0.lines']],
    [
      'an adapter that the engine did not execute',
      'blend',
      { 'part.1.digest': '', 'part.1.weight': '0000000000000000' },
      ['values', 'weights'],
    ],
    [
      'parts in another order than that of their versions',
      'blend',
      { 'part.0.version': 'ffffffff-0000-7000-8000-000000000000' },
      ['values'],
    ],
  ] as const)('%s', (_, name, values, wanted) => {
    const version =
      vector(name).receipts[0]?.fields.find((field) => field.name === 'part.1.version')?.value ?? '';
    const steps = found(name, 'tenant', { values: values ?? { 'part.0.version': version } });
    expect(steps.filter((step) => step !== 'documents')).toEqual(
      wanted.filter((step) => step !== 'documents'),
    );
  });

  test.each([
    ['promptTokens', ['-1', '+1', '012', '1.0', '1e3', '', ' 1', '18446744073709551616', '1\u0000', '١']],
    ['amount', ['-1', '00', '1'.repeat(40), '0x1']],
    ['tenantCounter', ['3:0', '3', ':1', '3:1:2', '03:1', '-1:1', '3:-1', '4294967296:1']],
    ['tenant', ['', 'ABCDEF00-0000-7000-8000-000000000000', '{019ad000-0000-7000-8000-000000000000}']],
    ['priority', ['standard', 'URGENT', '', 'constructor', '__proto__']],
    ['finish', ['STOP', 'toString', '']],
    ['currency', ['usd', 'US', 'TOOLONGCODE']],
    ['part.0.share', ['1/0', '1', '01/2', '-1/-2', '1/2/3', '1//2', `${'9'.repeat(900)}/1`]],
    ['part.0.weight', ['7ff0000000000001', '7ff0000000000000', '7ff8000000000000', '3FF0000000000000', '1']],
    ['part.0.rank', ['0', '65536', '-8']],
    ['outputCommitment', ['', 'AB'.repeat(32)]],
    ['backbone', ['AB'.repeat(32), 'ab'.repeat(31), `0x${'ab'.repeat(32)}`]],
  ])('%s as no such field can be', (name, values) => {
    for (const value of values)
      expect([value, found('blend', 'tenant', { values: { [name]: value } })[0]]).toEqual([value, 'opened']);
  });

  test('a receipt without a whole part', () => {
    for (const fields of [16, 17, 32, 34, 49])
      expect(found('blend', 'tenant', { fields })).toContain('fields');
    expect(found('blend', 'tenant', { fields: 33 })).toEqual(expect.arrayContaining(['shares', 'amount']));
  });
});
