import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { memoryText, showBytes } from '../../../src/kernel/memory.ts';
import {
  defaultTotalBytes,
  type MemoryNeeds,
  type MemoryWishes,
  PROCESS_BYTES,
  planMemory,
  planParts,
} from '../../../src/serving/memory-plan.ts';

const MB = 2 ** 20;
const NEEDS: MemoryNeeds = {
  weightBytes: 100 * MB,
  stepBytes: 40 * MB,
  sequenceBytes: 10 * MB,
  adapterBytes: 5 * MB,
  zeroPageBytes: MB,
  maxBatch: 4,
  maxConcurrentLoads: 2,
};
const WISHES: MemoryWishes = {
  totalBytes: 2 ** 30,
  kvBytes: null,
  bankBytes: null,
  hostCacheBytes: null,
  prefixBytes: null,
};

test('what is left is shared, no part beyond what a full batch uses, and the cache takes the rest', () => {
  const plan = planMemory(NEEDS, WISHES);
  expect(plan).toMatchObject({
    kvBytes: 40 * MB,
    bankBytes: 21 * MB,
    prefixBytes: Math.floor(0.1 * (1024 - 440 - 100 - 40 - 30 - 10 - 6 - 5) * MB),
    loadBytes: 30 * MB,
    weightBytes: 100 * MB,
  });
  expect(planParts(plan).reduce((sum, { bytes }) => sum + bytes, 0)).toBe(plan.totalBytes);
});

test('what an operator sets is taken as it is', () => {
  const plan = planMemory(NEEDS, {
    ...WISHES,
    kvBytes: 300 * MB,
    bankBytes: MB,
    hostCacheBytes: 2 * MB,
    prefixBytes: 3 * MB,
  });
  expect(plan).toMatchObject({
    kvBytes: 300 * MB,
    bankBytes: MB,
    hostCacheBytes: 2 * MB,
    prefixBytes: 3 * MB,
  });
  expect(planMemory(NEEDS, { ...WISHES, prefixBytes: 0 }).prefixBytes).toBe(0);
});

test('too little memory is refused with what is needed, and that much is enough', () => {
  const refused = (totalBytes: number): PatchbayError => {
    try {
      planMemory(NEEDS, { ...WISHES, totalBytes });
    } catch (error) {
      if (error instanceof PatchbayError) return error;
    }
    throw new Error('It was accepted.');
  };
  const error = refused(300 * MB);
  expect(error).toMatchObject({ code: 'CONFIG_INVALID', field: 'PATCHBAY_MEMORY_BYTES' });
  const needed = PROCESS_BYTES + (100 + 40 + 30 + 10 + 6 + 5) * MB;
  expect(error.meta).toMatchObject({ neededBytes: needed });
  expect(error.message).toContain('weights 100 MB');
  expect(refused(needed - 1).meta).toMatchObject({ neededBytes: needed });
  expect(planMemory(NEEDS, { ...WISHES, totalBytes: needed })).toMatchObject({
    kvBytes: NEEDS.sequenceBytes,
    bankBytes: NEEDS.adapterBytes + MB,
    hostCacheBytes: NEEDS.adapterBytes,
  });
});

test('whatever is asked for, the parts never exceed the total and never fall below their least', () => {
  const bytes = fc.integer({ min: 1, max: 4 * 2 ** 30 });
  const needs = fc.record({
    weightBytes: bytes,
    stepBytes: bytes,
    sequenceBytes: bytes,
    adapterBytes: bytes,
    zeroPageBytes: bytes,
    maxBatch: fc.integer({ min: 1, max: 64 }),
    maxConcurrentLoads: fc.integer({ min: 1, max: 4 }),
  });
  const wish = fc.option(bytes);
  const wishes = fc.record({
    totalBytes: fc.integer({ min: 1, max: 2 ** 40 }),
    kvBytes: wish,
    bankBytes: wish,
    hostCacheBytes: wish,
    prefixBytes: fc.option(fc.integer({ min: 0, max: 2 ** 30 })),
  });
  fc.assert(
    fc.property(needs, wishes, (need, asked) => {
      try {
        const plan = planMemory(need, asked);
        const parts = planParts(plan).reduce((sum, part) => sum + part.bytes, 0);
        expect(parts).toBeLessThanOrEqual(asked.totalBytes);
        expect(plan.kvBytes).toBeGreaterThanOrEqual(asked.kvBytes ?? need.sequenceBytes);
        expect(plan.bankBytes).toBeGreaterThanOrEqual(asked.bankBytes ?? need.adapterBytes);
        expect(plan.hostCacheBytes).toBeGreaterThanOrEqual(asked.hostCacheBytes ?? need.adapterBytes);
        expect(plan.prefixBytes).toBeGreaterThanOrEqual(asked.prefixBytes ?? 0);
      } catch (error) {
        if (!(error instanceof PatchbayError)) throw error;
        expect(error.meta.neededBytes).toBeGreaterThan(asked.totalBytes);
      }
    }),
    { seed: 20_261_124 },
  );
});

test('without a setting, half of what the machine or the container has is taken', () => {
  expect(defaultTotalBytes({ totalBytes: 100, constrainedBytes: 0 })).toBe(50);
  expect(defaultTotalBytes({ totalBytes: 100, constrainedBytes: 20 })).toBe(10);
  // A container without a limit reports a number beyond the machine's.
  expect(defaultTotalBytes({ totalBytes: 100, constrainedBytes: 2 ** 60 })).toBe(50);
});

test('a division is printed without parts that take nothing', () => {
  expect(showBytes(1.5 * 2 ** 30)).toBe('1.5 GB');
  const parts = [
    { name: 'weights', bytes: 3 * MB - 1 },
    { name: 'prefixes', bytes: 0 },
    { name: 'loads', bytes: MB },
  ];
  expect(memoryText({ parts })).toBe('weights 3 MB, loads 1 MB');
});
