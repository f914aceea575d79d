import { expect, test } from 'vitest';
import { ResidencyTotals } from '../../../src/economics/residency-totals.ts';
import type { ResidencyHour } from '../../../src/engine/port.ts';

const HOUR_MS = 3_600_000;

function piece(hour: number, aliveUs: bigint, host: Readonly<Record<string, bigint>>): ResidencyHour {
  return {
    startMs: hour * HOUR_MS,
    aliveUs,
    capacityByteUs: aliveUs * 10n,
    adapters: Object.entries(host).map(([digest, hostByteUs]) => ({
      digest,
      hostByteUs,
      bankByteUs: 1n,
      loads: 2n,
      bytesLoaded: 3n,
      loadUs: 4n,
    })),
  };
}

function totals(): ResidencyTotals {
  let runs = 0;
  return new ResidencyTotals(() => `run-${++runs}`);
}

test('pieces of an hour add up until they are written, and go on adding up after', () => {
  const sums = totals();
  sums.add([piece(1, 5n, { a: 10n }), piece(1, 2n, { a: 1n, b: 7n })]);
  const expected = {
    runId: 'run-1',
    startMs: HOUR_MS,
    aliveUs: 7n,
    capacityByteUs: 70n,
    adapters: [
      { digest: 'a', hostByteUs: 11n, bankByteUs: 2n, loads: 4n, bytesLoaded: 6n, loadUs: 8n },
      { digest: 'b', hostByteUs: 7n, bankByteUs: 1n, loads: 2n, bytesLoaded: 3n, loadUs: 4n },
    ],
  };
  expect(sums.hours).toEqual([expected]);
  sums.written();
  expect(sums.hours).toEqual([expected]);
  sums.add([piece(1, 1n, {})]);
  expect(sums.hours).toMatchObject([{ aliveUs: 8n, adapters: [{ hostByteUs: 11n }, {}] }]);
});

test('an hour that is over is forgotten when it is written, and not before', () => {
  const sums = totals();
  sums.add([piece(1, 5n, {})]);
  sums.add([piece(2, 6n, {})]);
  expect(sums.hours.map(({ startMs }) => startMs / HOUR_MS)).toEqual([1, 2]);
  sums.written();
  expect(sums.hours.map(({ startMs }) => startMs / HOUR_MS)).toEqual([2]);
});

test('a clock that is put back into a forgotten hour begins another run, so that no sum is overwritten', () => {
  const sums = totals();
  sums.add([piece(1, 5n, {}), piece(2, 6n, {})]);
  sums.written();
  sums.add([piece(1, 1n, {})]);
  expect(sums.hours).toMatchObject([
    { runId: 'run-1', startMs: 2 * HOUR_MS, aliveUs: 6n },
    { runId: 'run-2', startMs: HOUR_MS, aliveUs: 1n },
  ]);
  sums.written();
  sums.add([piece(2, 3n, {})]);
  expect(sums.hours).toMatchObject([
    { runId: 'run-2', startMs: HOUR_MS, aliveUs: 1n },
    { runId: 'run-2', startMs: 2 * HOUR_MS, aliveUs: 3n },
  ]);
});
