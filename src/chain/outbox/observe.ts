import { PatchbayError } from '../../kernel/errors.ts';
import type { ChainNode, Head } from './node.ts';
import type { BlockRef, OpenTransaction, QueuedTransaction } from './types.ts';
import type { ChainView, Quote, Receipt } from './view.ts';

/** When a block counts as final: at a depth, itself included, or when the chain says so. */
export type Finality = number | 'finalized';

/** An account on the chain as it is now. */
export interface Standing {
  readonly account: string;
  readonly head: Head;
  readonly used: number;
  readonly balance: bigint;
}

export async function readStanding(node: ChainNode, account: string): Promise<Standing> {
  // One after the other: answers may come from several nodes behind one URL, and what is used up should not be older than
  // what is believed of blocks.
  const head = await node.head();
  const used = await node.used(account);
  return { account, head, used, balance: await node.balance(account) };
}

/** What is looked at, and how. */
export interface Looking {
  readonly finality: Finality;
  readonly open: readonly OpenTransaction[];
  /** Empty transactions that may fill gaps. */
  readonly fills: Iterable<QueuedTransaction>;
  /** How many queued transactions can be signed at most: no more of them need an estimate. */
  readonly room: number;
  /** Called before each question: a node may take long to answer them all. */
  readonly keep: () => Promise<void>;
}

/** Asks a node for all that a plan for these transactions needs. */
export async function observe(
  asked: ChainNode,
  standing: Standing,
  { finality, open, fills, room, keep }: Looking,
): Promise<ChainView> {
  const { account, head, used, balance } = standing;
  const node = keeping(asked, keep);
  const finalNumber = await finalBlock(node, head, finality);
  const receipts = await readReceipts(node, open);
  const blocks = await readBlocks(node, [
    ...[...receipts.values()].map(({ block }) => block.number),
    ...open.flatMap((one) => (one.state === 'INCLUDED' ? [one.block.number] : [])),
  ]);
  const takenBy = new Map<number, string>();
  for (const transaction of open) {
    if (transaction.state === 'QUEUED' || transaction.nonce >= used) continue;
    const hashes = transaction.attempts.map(({ hash }) => hash);
    if (finalNumber === null || hashes.some((hash) => receipts.has(hash))) continue;
    const taker = await findTaker(node, account, transaction.nonce, finalNumber);
    if (taker !== null && !hashes.includes(taker)) takenBy.set(transaction.nonce, taker);
  }
  const market = await node.market(head);
  const quotes = new Map<string, Quote>();
  const quote = async (transaction: QueuedTransaction): Promise<Quote> => {
    const found = await node.quote({ from: account, ...callOf(transaction) });
    quotes.set(transaction.id, found);
    return found;
  };
  for (const fill of fills) await quote(fill);
  let left = room;
  for (const transaction of open) {
    if (left <= 0) break;
    if (transaction.state !== 'QUEUED') continue;
    if ((await quote(transaction)).kind === 'gas') left -= 1;
  }
  return { head, finalNumber, used, balance, market, receipts, blocks, takenBy, quotes };
}

type Questions = Pick<
  ChainNode,
  'finalized' | 'blockHash' | 'used' | 'market' | 'receipt' | 'quote' | 'sentIn'
>;

/** The same node, with something to be done before each question. */
function keeping(node: Questions, keep: () => Promise<void>): Questions {
  const after = async <T>(question: () => Promise<T>): Promise<T> => {
    await keep();
    return question();
  };
  return {
    finalized: () => after(() => node.finalized()),
    blockHash: (number) => after(() => node.blockHash(number)),
    used: (account, block) => after(() => node.used(account, block)),
    market: (head) => after(() => node.market(head)),
    receipt: (hash) => after(() => node.receipt(hash)),
    quote: (call) => after(() => node.quote(call)),
    sentIn: (block, account) => after(() => node.sentIn(block, account)),
  };
}

/** What is called, and with how much. */
export function callOf({ call, value }: Pick<QueuedTransaction, 'call' | 'value'>) {
  return { ...call, value };
}

/** The newest block that counts as final; null when there is none. */
export async function finalBlock(
  node: Pick<ChainNode, 'finalized'>,
  head: BlockRef,
  finality: Finality,
): Promise<number | null> {
  if (finality === 'finalized') return node.finalized();
  const number = head.number - finality + 1;
  return number < 0 ? null : number;
}

async function readReceipts(
  node: Questions,
  open: readonly OpenTransaction[],
): Promise<ReadonlyMap<string, Receipt>> {
  const receipts = new Map<string, Receipt>();
  for (const transaction of open) {
    if (transaction.state === 'QUEUED') continue;
    for (const { hash } of transaction.attempts) {
      const receipt = await node.receipt(hash);
      if (receipt !== null) receipts.set(hash, receipt);
    }
  }
  return receipts;
}

async function readBlocks(node: Questions, numbers: readonly number[]): Promise<ReadonlyMap<number, string>> {
  const blocks = new Map<number, string>();
  for (const number of new Set(numbers)) {
    const hash = await node.blockHash(number);
    if (hash !== null) blocks.set(number, hash);
  }
  return blocks;
}

/**
 * The transaction in a final block that has a nonce of the account; null when it is not final or cannot be found. That there is
 * no receipt for our own hashes would not be enough: a node may simply not have them.
 */
async function findTaker(
  node: Questions,
  account: string,
  nonce: number,
  finalNumber: number,
): Promise<string | null> {
  try {
    const isUsed = async (block: number): Promise<boolean> => (await node.used(account, block)) > nonce;
    if (!(await isUsed(finalNumber))) return null;
    // Back in growing steps to a block in which it was free, and then forward by halves.
    let taken = finalNumber;
    let free = finalNumber - 1;
    for (let step = 1; free >= 0 && (await isUsed(free)); step *= 2) {
      taken = free;
      free = Math.max(free - step, -1);
    }
    while (taken - free > 1) {
      const middle = free + Math.floor((taken - free) / 2);
      if (await isUsed(middle)) taken = middle;
      else free = middle;
    }
    return (await node.sentIn(taken, account)).get(nonce) ?? null;
  } catch (error) {
    // A node that does not keep the state of those blocks says so. Then it stays unknown.
    if (error instanceof PatchbayError && error.code === 'CHAIN_NODE_ERROR') return null;
    throw error;
  }
}
