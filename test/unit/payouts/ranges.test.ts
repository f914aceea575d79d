import { expect, test } from 'vitest';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import { BlockRanges } from '../../../src/payouts/chain/ranges.ts';

type Range = readonly [from: number, to: number];

/** Reads 1 to the last block; answers the ranges that the node answered, and those that it refused. */
async function readAll(last: number, blocksMax: number, answers: (range: Range) => boolean) {
  const ranges = new BlockRanges({ blocksMax });
  const read: Range[] = [];
  const refused: Range[] = [];
  for (let from = 1; from <= last; ) {
    const { to } = await ranges.next(from, last, async (first, end) => {
      if (!answers([first, end])) {
        refused.push([first, end]);
        throw new PatchbayError('CHAIN_NODE_ERROR', 'too many');
      }
      read.push([first, end]);
    });
    from = to + 1;
  }
  return { read, refused };
}

test('ranges are as long as may be, and end at the last block', async () => {
  expect(await readAll(250, 100, () => true)).toEqual({
    read: [
      [1, 100],
      [101, 200],
      [201, 250],
    ],
    refused: [],
  });
});

test('a range that is refused is halved until it is answered, and grows again; no block is left out or read twice', async () => {
  const limit = 12;
  const { read, refused } = await readAll(100, 64, ([from, to]) => to - from < limit);
  expect(read[0]).toEqual([1, 8]);
  expect(refused.slice(0, 3)).toEqual([
    [1, 64],
    [1, 32],
    [1, 16],
  ]);
  const blocks = read.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
  expect(blocks).toEqual(Array.from({ length: 100 }, (_, i) => i + 1));
});

test('a node that refuses a single block fails the reading', async () => {
  await expect(readAll(5, 4, ([from]) => from < 3)).rejects.toMatchObject({ code: 'CHAIN_NODE_ERROR' });
});

test('a node that does not answer is asked once, and for less the next time', async () => {
  const ranges = new BlockRanges({ blocksMax: 64 });
  const asked: Range[] = [];
  const down = async (from: number, to: number): Promise<never> => {
    asked.push([from, to]);
    throw new PatchbayError('CHAIN_UNREACHABLE', 'no answer');
  };
  await expect(ranges.next(1, 100, down)).rejects.toMatchObject({ code: 'CHAIN_UNREACHABLE' });
  await expect(ranges.next(1, 100, down)).rejects.toMatchObject({ code: 'CHAIN_UNREACHABLE' });
  expect(asked).toEqual([
    [1, 64],
    [1, 32],
  ]);
});
