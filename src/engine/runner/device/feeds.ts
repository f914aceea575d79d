import { Tensor } from 'onnxruntime-node';
import { DEVICE_INPUTS } from '../../../kernel/device.ts';
import type { ModelShape } from '../../../kernel/model.ts';
import type { RowWork } from '../../runner.ts';
import { type PageSlots, ZERO_SLOT } from './page-slots.ts';
import type { TokenPool } from './token-pool.ts';

export type Feeds = Record<string, Tensor>;

/** Far below any score, and finite: shaders may treat infinities as they like. */
const UNSEEN = -1e30;

/**
 * The inputs of a run that come from the host: which tokens, where they stand, what they see, where they are kept.
 * @param wipe places that the run fills with zeros on the way
 */
export function tokenFeeds(
  rows: readonly RowWork[],
  shape: ModelShape,
  pool: TokenPool,
  wipe: readonly number[],
): Feeds {
  const width = Math.max(...rows.map(({ tokens }) => tokens.length));
  const seen = Math.max(...rows.map(({ tokens, past }) => past + tokens.length));
  const ids: number[] = [];
  const positions: number[] = [];
  const wanted: number[] = [];
  const laneIndex: number[] = [];
  const unlaneIndex: number[] = [];
  const keyIndex: number[] = [];
  const written: number[] = [];
  const mask = new Float32Array(rows.length * width * seen).fill(UNSEEN);
  rows.forEach(({ row, tokens, past, wantsLogits }, lane) => {
    const first = ids.length;
    tokens.forEach((token, s) => {
      ids.push(token);
      positions.push(past + s);
      unlaneIndex.push(lane * width + s);
      written.push(pool.place(row, past + s));
    });
    if (wantsLogits) wanted.push(ids.length - 1);
    const last = past + tokens.length - 1;
    for (let s = 0; s < width; s++) {
      // Padding repeats the row's own last token, so nothing of another row can leak into its sums.
      const own = Math.min(s, tokens.length - 1);
      laneIndex.push(first + own);
      const from = (lane * width + s) * seen;
      mask.fill(0, from, from + past + own + 1);
    }
    for (let t = 0; t < seen; t++) keyIndex.push(pool.place(row, Math.min(t, last)));
  });
  const { heads, kvHeads } = shape;
  const perKvHead = heads / kvHeads;
  const lanes = rows.length;
  return {
    [DEVICE_INPUTS.tokenIds]: int64(ids, [ids.length]),
    [DEVICE_INPUTS.positions]: int64(positions, [1, ids.length]),
    [DEVICE_INPUTS.laneIndex]: int64(laneIndex, [lanes, width]),
    [DEVICE_INPUTS.unlaneIndex]: int64(unlaneIndex, [ids.length]),
    [DEVICE_INPUTS.keyIndex]: int64(keyIndex, [lanes, seen]),
    [DEVICE_INPUTS.mask]: new Tensor('float32', mask, [lanes, 1, 1, width, seen]),
    [DEVICE_INPUTS.scoreShape]: int64([lanes, kvHeads, perKvHead, width, seen], [5]),
    [DEVICE_INPUTS.scoreMatrixShape]: int64([lanes, kvHeads, perKvHead * width, seen], [4]),
    [DEVICE_INPUTS.writeIndex]: int64([...written, ...wipe], [written.length + wipe.length, 1]),
    [DEVICE_INPUTS.writeSource]: int64(
      [...written.map((_, token) => token), ...wipe.map(() => ids.length)],
      [written.length + wipe.length],
    ),
    [DEVICE_INPUTS.logitIndex]: int64(wanted.length === 0 ? [0] : wanted, [Math.max(1, wanted.length)]),
  };
}

/**
 * Groups a run's packed tokens by adapter page. Tokens with fewer pages than others read the zero slot; a run without
 * adapters reads nothing else, since not every kernel takes empty tensors.
 */
export function pageFeeds(rows: readonly RowWork[], slots: PageSlots): Feeds {
  const tokens = rows.flatMap((row) => {
    const pages = row.adapters.flatMap(({ adapter, weight }) =>
      adapter.pages.map((_, page) => ({ slot: slots.slot(adapter.digest, page), weight })),
    );
    return row.tokens.map(() => pages);
  });
  const perToken = Math.max(1, ...tokens.map((pages) => pages.length));
  const groups = new Map<number, number[]>();
  const members: { slot: number; place: number; weight: number }[] = [];
  tokens.forEach((pages, token) => {
    for (let j = 0; j < perToken; j++) {
      const page = pages[j] ?? { slot: ZERO_SLOT, weight: 0 };
      const group = groups.get(page.slot) ?? [];
      // The zero slot's one member is the row of zeros, which serves every token.
      if (page.slot !== ZERO_SLOT) group.push(token);
      else if (group.length === 0) group.push(tokens.length);
      groups.set(page.slot, group);
      members.push({ ...page, place: group.length - 1 });
    }
  });
  const used = [...groups.keys()];
  const order = new Map(used.map((slot, index) => [slot, index]));
  const width = Math.max(...[...groups.values()].map((group) => group.length));
  const groupIndex = [...groups.values()].flatMap((group) =>
    Array.from({ length: width }, (_, place) => group[place] ?? tokens.length),
  );
  const weights = Float32Array.from(members, ({ weight }) => weight);
  return {
    [DEVICE_INPUTS.pageSlots]: int64(used, [used.length]),
    [DEVICE_INPUTS.groupIndex]: int64(groupIndex, [used.length, width]),
    [DEVICE_INPUTS.ungroupIndex]: int64(
      members.map(({ slot, place }) => (order.get(slot) ?? 0) * width + place),
      [tokens.length, perToken],
    ),
    [DEVICE_INPUTS.pageWeight]: new Tensor('float32', weights, [tokens.length, 1, perToken]),
  };
}

export function int64(values: readonly number[], dims: readonly number[]): Tensor {
  return new Tensor('int64', BigInt64Array.from(values, BigInt), dims);
}
