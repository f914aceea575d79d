import fc from 'fast-check';
import { expect, test } from 'vitest';
import { maximumPrice, priceRequest } from '../../../src/pricing/price.ts';
import { splitCharge } from '../../../src/pricing/split.ts';
import { request, use } from './arbitraries.ts';

const SEED = 20_260_302;

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
