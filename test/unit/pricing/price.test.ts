import { describe, expect, test } from 'vitest';
import { pinFromJson, pinToJson } from '../../../src/pricing/pin.ts';
import { maximumPrice, priceRequest } from '../../../src/pricing/price.ts';
import { splitCharge } from '../../../src/pricing/split.ts';
import { blend, OWNER, part, pinned, terms, tokens } from './sample.ts';

const amounts = (lines: readonly { kind: string; amount: bigint }[]) =>
  lines.map(({ kind, amount }) => `${kind} ${amount}`);

describe('the price of a request', () => {
  test('has a line for each kind of token, times the class', () => {
    const price = terms({
      inputPerMillion: 1_000_000_000n,
      cachedInputPerMillion: 100_000_000n,
      outputPerMillion: 4_000_000_000n,
      rankPerMillion: 10_000_000n,
      classPpm: { INTERACTIVE: 2_000_000n, STANDARD: 1_000_000n, BATCH: 500_000n },
    });
    const standard = pinned(part({ price }));
    // 60 × 1,000; 40 × 100; 10 × 4,000; (60 + 10) × 8 × 10.
    const counts = tokens(100, 10, 40);
    const { lines, total } = priceRequest(standard, counts);
    expect(amounts(lines)).toEqual(['INPUT 60000', 'CACHED_INPUT 4000', 'OUTPUT 40000', 'RANK 5600']);
    expect(lines.map((line) => line.tokens)).toEqual([60n, 40n, 10n, 70n]);
    expect(total).toBe(109_600n);
    expect(priceRequest({ ...standard, priority: 'INTERACTIVE' }, counts).total).toBe(219_200n);
    expect(priceRequest({ ...standard, priority: 'BATCH' }, counts).total).toBe(54_800n);
  });

  test('rounds each line once: not the price of a token, and not the sum', () => {
    // A third of a nano-unit for each token: 3 tokens cost exactly one, where rounded tokens would cost none.
    const thirds = pinned(part({ adapter: null, price: terms({ inputPerMillion: 333_334n }) }));
    expect(priceRequest(thirds, tokens(3)).total).toBe(1n);
    // Two lines of a half each are two ties to zero, where their sum would be one.
    const halves = terms({ inputPerMillion: 500_000n, outputPerMillion: 500_000n });
    expect(priceRequest(pinned(part({ adapter: null, price: halves })), tokens(1, 1)).total).toBe(0n);
    expect(priceRequest(pinned(part({ adapter: null, price: halves })), tokens(3, 3)).total).toBe(4n);
  });

  test('divides a blend by exact shares, and counts each rank in full', () => {
    const price = terms({ inputPerMillion: 3_000_000n, rankPerMillion: 1_000_000n });
    const request = blend([0.1, -0.2], (share) => part({ share, price }));
    const { lines } = priceRequest(request, tokens(100));
    expect(lines.filter(({ kind }) => kind === 'INPUT').map(({ amount }) => amount)).toEqual([100n, 200n]);
    expect(lines.filter(({ kind }) => kind === 'RANK').map(({ amount }) => amount)).toEqual([800n, 800n]);
  });

  test('takes each adapter’s own prices where it has some', () => {
    const request = blend([1, 1], (share, index) =>
      part({ share, price: terms({ outputPerMillion: index === 0 ? 2_000_000n : 10_000_000n }) }),
    );
    const output = priceRequest(request, tokens(5, 10)).lines.filter(({ kind }) => kind === 'OUTPUT');
    expect(output.map(({ amount }) => amount)).toEqual([10n, 50n]);
  });

  test('puts a royalty for tokens on top, whatever the class, with the share of the blend', () => {
    const royalty = {
      versionId: 'r',
      kind: 'PER_TOKEN' as const,
      inputPerMillion: 1_000_000n,
      outputPerMillion: 5_000_000n,
    };
    const request = blend([1, 3], (share) => part({ share, royalty }));
    for (const priority of ['INTERACTIVE', 'BATCH'] as const) {
      const { lines } = priceRequest({ ...request, priority }, tokens(100, 20, 100));
      const royalties = lines.filter(({ kind }) => kind === 'ROYALTY');
      expect(royalties.map(({ amount }) => amount)).toEqual([50n, 150n]);
      expect(royalties.map((line) => line.tokens)).toEqual([120n, 120n]);
    }
  });

  test('counts a royalty by share on the rounded lines of its part, so that a bill can be checked', () => {
    const royalty = { versionId: 'r', kind: 'SHARE' as const, sharePpm: 250_000n };
    const price = terms({ inputPerMillion: 1_400_000n, outputPerMillion: 1_400_000n });
    // 1.4 and 1.4 are 1 and 1, of whose sum a quarter is a tie to zero; of the exact sum, 2.8, it would be one.
    expect(amounts(priceRequest(pinned(part({ price, royalty })), tokens(1, 1)).lines)).toEqual([
      'INPUT 1',
      'CACHED_INPUT 0',
      'OUTPUT 1',
      'RANK 0',
      'ROYALTY 0',
    ]);
  });

  test('may be zero, and then nothing is held', () => {
    const free = pinned(part());
    expect(priceRequest(free, tokens(1_000_000, 1_000_000)).total).toBe(0n);
    expect(maximumPrice(free, { promptTokens: 1_000_000, maxTokens: 1_000_000 }).total).toBe(0n);
    const freeClass = terms({
      inputPerMillion: 5n,
      cachedInputPerMillion: 5n,
      classPpm: { INTERACTIVE: 0n, STANDARD: 0n, BATCH: 0n },
    });
    expect(maximumPrice(pinned(part({ price: freeClass })), { promptTokens: 9, maxTokens: 9 }).total).toBe(
      0n,
    );
  });

  test('is exact far past 2^53', () => {
    const price = terms({ inputPerMillion: 10n ** 15n, outputPerMillion: 10n ** 15n - 1n });
    const { total } = priceRequest(pinned(part({ adapter: null, price })), tokens(2 ** 40, 2 ** 40));
    expect(total).toBe(2n ** 40n * 10n ** 9n + (2n ** 40n * (10n ** 15n - 1n) + 499_999n) / 1_000_000n);
    expect(total > 2n ** 53n).toBe(true);
  });

  test('refuses counts that cannot be', () => {
    expect(() => priceRequest(pinned(part()), tokens(1, 1, 2))).toThrow(/cached/);
    expect(() => priceRequest(pinned(part()), tokens(-1))).toThrow(/whole numbers/);
    expect(() => priceRequest(pinned(part()), tokens(0.5))).toThrow(/whole numbers/);
  });
});

describe('the most that a request can cost', () => {
  test('covers the prompt that is cut where both of its lines round up', () => {
    const price = terms({ inputPerMillion: 1_500_000n, cachedInputPerMillion: 1_500_000n });
    const request = pinned(part({ adapter: null, price }));
    // All fresh: 2 × 1.5 = 3. One of them cached: 1.5 and 1.5, both to the even 2, make 4.
    expect(priceRequest(request, tokens(2)).total).toBe(3n);
    expect(priceRequest(request, tokens(2, 0, 1)).total).toBe(4n);
    expect(maximumPrice(request, { promptTokens: 2, maxTokens: 0 }).total).toBe(4n);
  });

  test('covers cached tokens that cost more than others', () => {
    const price = terms({ inputPerMillion: 1_000_000n, cachedInputPerMillion: 7_000_000n });
    const request = pinned(part({ adapter: null, price }));
    expect(maximumPrice(request, { promptTokens: 10, maxTokens: 0 }).total).toBe(71n);
    expect(priceRequest(request, tokens(10, 0, 10)).total).toBe(70n);
  });

  test('has no slack where only one line of the prompt can charge', () => {
    const price = terms({ inputPerMillion: 1_500_000n });
    expect(
      maximumPrice(pinned(part({ adapter: null, price })), { promptTokens: 2, maxTokens: 0 }).total,
    ).toBe(3n);
  });
});

describe('the split of a price', () => {
  const royalty = {
    versionId: 'r',
    kind: 'PER_TOKEN' as const,
    inputPerMillion: 1_000_000n,
    outputPerMillion: 0n,
  };
  const price = terms({ inputPerMillion: 2_000_000n, platformFeePpm: 100_000n });

  test('gives the platform its prices and its fee, and the owner the rest of the royalty', () => {
    const request = pinned(part({ price, royalty }));
    const charge = priceRequest(request, tokens(100));
    expect(charge.total).toBe(300n);
    expect(splitCharge(request, charge, new Map())).toEqual({
      platform: 210n,
      fees: [10n],
      earnings: [{ part: 0, adapterVersionId: part().adapter?.versionId, tenantId: OWNER, amount: 90n }],
    });
  });

  test('divides it among beneficiaries by largest remainder', () => {
    const request = pinned(part({ price: terms(), royalty, splitVersionId: 's' }));
    const terms3 = { beneficiaries: ['a', 'b', 'c'].map((tenantId) => ({ tenantId, parts: 1n })) };
    const { earnings, platform } = splitCharge(
      request,
      priceRequest(request, tokens(100)),
      new Map([['s', terms3]]),
    );
    expect(platform).toBe(0n);
    expect(earnings.map(({ tenantId, amount }) => `${tenantId} ${amount}`)).toEqual(['a 34', 'b 33', 'c 33']);
  });

  test('does not guess a split that was not read', () => {
    const request = pinned(part({ royalty, splitVersionId: 'unknown' }));
    expect(() => splitCharge(request, priceRequest(request, tokens(1)), new Map())).toThrow(/not read/);
  });

  test('gives the plain backbone’s price to the platform', () => {
    const request = pinned(part({ adapter: null, price }));
    expect(splitCharge(request, priceRequest(request, tokens(10)), new Map())).toEqual({
      platform: 20n,
      fees: [0n],
      earnings: [],
    });
  });
});

test('a pin survives JSON, in which no integer is a number', () => {
  const royalty = { versionId: 'r', kind: 'SHARE' as const, sharePpm: 10n };
  const perToken = {
    versionId: 'q',
    kind: 'PER_TOKEN' as const,
    inputPerMillion: 2n ** 60n,
    outputPerMillion: 0n,
  };
  const request = pinned(
    part({ royalty, price: terms({ inputPerMillion: 2n ** 70n + 1n }) }),
    part({ adapter: null, royalty: perToken, splitVersionId: 's' }),
  );
  expect(pinFromJson(JSON.parse(JSON.stringify(pinToJson(request))))).toEqual(request);
  expect(() => pinFromJson({ ...Object(pinToJson(request)), currency: undefined })).toThrow();
});
