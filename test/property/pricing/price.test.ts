import fc from 'fast-check';
import { expect, test } from 'vitest';
import { blendShares } from '../../../src/metering/shares.ts';
import { maximumPrice, priceRequest } from '../../../src/pricing/price.ts';
import { splitCharge } from '../../../src/pricing/split.ts';
import type { PinnedPricing, PricedPart, SplitTerms } from '../../../src/pricing/terms.ts';
import { part, terms } from '../../unit/pricing/sample.ts';

const SEED = 20_260_302;

// Small prices and halves make lines that round up together, large ones leave the doubles behind.
const perMillion = fc.oneof(
  fc.constantFrom(0n, 1n, 499_999n, 500_000n, 500_001n, 1_500_000n),
  fc.bigInt({ min: 0n, max: 10n ** 15n }),
);
const ppm = fc.oneof(fc.constantFrom(0n, 500_000n, 1_000_000n), fc.bigInt({ min: 0n, max: 100_000_000n }));
const price = fc
  .record({
    inputPerMillion: perMillion,
    cachedInputPerMillion: perMillion,
    outputPerMillion: perMillion,
    rankPerMillion: fc.bigInt({ min: 0n, max: 10n ** 12n }),
    classPpm: fc.record({ INTERACTIVE: ppm, STANDARD: ppm, BATCH: ppm }),
    platformFeePpm: fc.bigInt({ min: 0n, max: 1_000_000n }),
  })
  .map(terms);
const royalty = fc.oneof(
  fc.constant(null),
  fc.record({
    versionId: fc.constant('r'),
    kind: fc.constant('PER_TOKEN' as const),
    inputPerMillion: perMillion,
    outputPerMillion: perMillion,
  }),
  fc.record({
    versionId: fc.constant('r'),
    kind: fc.constant('SHARE' as const),
    sharePpm: fc.bigInt({ min: 0n, max: 10_000_000n }),
  }),
);
const weight = fc
  .double({ min: -16, max: 16, noNaN: true, noDefaultInfinity: true })
  .filter((value) => value !== 0);
const split = fc.array(fc.bigInt({ min: 1n, max: 10n ** 15n }), { minLength: 1, maxLength: 6 }).map(
  (all): SplitTerms => ({
    beneficiaries: all.map((parts, index) => ({ tenantId: `tenant-${index}`, parts })),
  }),
);

interface Case {
  readonly pinned: PinnedPricing;
  readonly splits: ReadonlyMap<string, SplitTerms>;
}

const request: fc.Arbitrary<Case> = fc
  .record({
    priority: fc.constantFrom('INTERACTIVE' as const, 'STANDARD' as const, 'BATCH' as const),
    parts: fc.array(fc.record({ weight, price, royalty, split, rank: fc.integer({ min: 1, max: 1_024 }) }), {
      minLength: 1,
      maxLength: 8,
    }),
    plain: fc.boolean(),
  })
  .map(({ priority, parts, plain }) => {
    const used = plain ? parts.slice(0, 1) : parts;
    const shares = blendShares(used.map((each) => each.weight));
    const splits = new Map<string, SplitTerms>();
    const made = used.map((each, index): PricedPart => {
      splits.set(`split-${index}`, each.split);
      const share = shares[index] ?? { numerator: 1n, denominator: 1n };
      if (plain) return part({ adapter: null, price: each.price });
      const { adapter } = part();
      return part({
        adapter: adapter && { ...adapter, rank: each.rank },
        share,
        price: each.price,
        royalty: each.royalty,
        splitVersionId: `split-${index}`,
      });
    });
    return { pinned: { at: new Date(0), currency: 'USD', priority, parts: made }, splits };
  });

/** A prompt, how much of it is cached, and how much of the allowed answer is generated. */
const use = fc
  .record({ prompt: fc.nat(200_000), max: fc.nat(20_000), small: fc.boolean() })
  .chain(({ prompt, max, small }) => {
    const promptTokens = small ? prompt % 6 : prompt;
    const maxTokens = small ? max % 6 : max;
    return fc.record({
      promptTokens: fc.constant(promptTokens),
      maxTokens: fc.constant(maxTokens),
      cached: fc.nat(promptTokens),
      completion: fc.nat(maxTokens),
      unread: fc.boolean(),
    });
  });

test('what is captured never exceeds what was held', () => {
  const property = fc.property(request, use, ({ pinned }, { promptTokens, maxTokens, ...used }) => {
    const held = maximumPrice(pinned, { promptTokens, maxTokens }).total;
    const captured = priceRequest(pinned, {
      // A request that ends before the engine has begun with it uses nothing of its prompt.
      promptTokens: used.unread ? 0 : promptTokens,
      cachedPromptTokens: used.unread ? 0 : used.cached,
      completionTokens: used.completion,
    }).total;
    expect(captured <= held).toBe(true);
    // Nor is more held than the dearest use plus a nano-unit for the prompt of each part, and the royalty on it.
    const dearest = Math.max(
      ...[0, promptTokens].map((cachedPromptTokens) =>
        Number(priceRequest(pinned, { promptTokens, cachedPromptTokens, completionTokens: maxTokens }).total),
      ),
    );
    if (pinned.parts.length === 1 && pinned.parts[0]?.adapter === null) {
      expect(Number(held) <= dearest + 1 + dearest * 1e-12).toBe(true);
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 5_000 });
});

test('every cut of a small prompt is held for, tried one by one', () => {
  const property = fc.property(request, fc.integer({ min: 0, max: 9 }), ({ pinned }, promptTokens) => {
    const held = maximumPrice(pinned, { promptTokens, maxTokens: 2 }).total;
    for (let cachedPromptTokens = 0; cachedPromptTokens <= promptTokens; cachedPromptTokens += 1) {
      for (const completionTokens of [0, 1, 2]) {
        const counts = { promptTokens, cachedPromptTokens, completionTokens };
        expect(priceRequest(pinned, counts).total <= held).toBe(true);
      }
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 2_000 });
});

test('a price grows with every token that is generated', () => {
  const property = fc.property(request, use, ({ pinned }, { promptTokens, cached, completion }) => {
    const at = (completionTokens: number): bigint =>
      priceRequest(pinned, { promptTokens, cachedPromptTokens: cached, completionTokens }).total;
    expect(at(completion) <= at(completion + 1)).toBe(true);
  });
  fc.assert(property, { seed: SEED, numRuns: 2_000 });
});

test('lines add up to the total, and platform and earnings do as well, exactly', () => {
  const property = fc.property(request, use, ({ pinned, splits }, { promptTokens, cached, completion }) => {
    const counts = { promptTokens, cachedPromptTokens: cached, completionTokens: completion };
    const charge = priceRequest(pinned, counts);
    expect(charge.lines.reduce((sum, { amount }) => sum + amount, 0n)).toBe(charge.total);
    const { platform, fees, earnings } = splitCharge(pinned, charge, splits);
    expect(earnings.reduce((sum, { amount }) => sum + amount, platform)).toBe(charge.total);
    for (const [index, fee] of fees.entries()) {
      const royalties = charge.lines
        .filter((line) => line.part === index && line.kind === 'ROYALTY')
        .reduce((sum, { amount }) => sum + amount, 0n);
      const earned = earnings
        .filter((earning) => earning.part === index)
        .reduce((sum, { amount }) => sum + amount, 0n);
      expect(earned + fee).toBe(royalties);
    }
    expect(platform >= 0n && earnings.every(({ amount }) => amount > 0n)).toBe(true);
  });
  fc.assert(property, { seed: SEED, numRuns: 2_000 });
});

test('an independent reading of the formulas gives the same lines', () => {
  // Exact fractions compared by cross-multiplication, instead of the integer divisions of the program.
  const nearest = (n: bigint, d: bigint, amount: bigint): void => {
    const twice = 2n * (n - amount * d);
    expect(twice <= d && twice >= -d).toBe(true);
    if (twice === d || twice === -d) expect(amount % 2n).toBe(0n);
  };
  const property = fc.property(request, use, ({ pinned }, { promptTokens, cached, completion }) => {
    const counts = { promptTokens, cachedPromptTokens: cached, completionTokens: completion };
    const { lines } = priceRequest(pinned, counts);
    for (const [index, { price: asked, share, adapter }] of pinned.parts.entries()) {
      const of = (kind: string) => lines.filter((line) => line.part === index && line.kind === kind);
      const classPpm = asked.classPpm[pinned.priority];
      const base = [
        ['INPUT', BigInt(promptTokens - cached), asked.inputPerMillion],
        ['CACHED_INPUT', BigInt(cached), asked.cachedInputPerMillion],
        ['OUTPUT', BigInt(completion), asked.outputPerMillion],
      ] as const;
      for (const [kind, count, unit] of base) {
        const [line] = of(kind);
        expect(line?.tokens).toBe(count);
        nearest(
          count * unit * classPpm * share.numerator,
          10n ** 12n * share.denominator,
          line?.amount ?? -1n,
        );
      }
      expect(of('RANK')).toHaveLength(adapter === null ? 0 : 1);
      if (adapter === null) continue;
      const computed = BigInt(promptTokens - cached + completion);
      nearest(
        computed * BigInt(adapter.rank) * asked.rankPerMillion * classPpm,
        10n ** 12n,
        of('RANK')[0]?.amount ?? -1n,
      );
    }
  });
  fc.assert(property, { seed: SEED, numRuns: 1_000 });
});
