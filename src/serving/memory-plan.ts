import { PatchbayError } from '../kernel/errors.ts';
import { type MemoryReport, memoryText, showBytes } from '../kernel/memory.ts';

/** How the memory of a server process is divided, in bytes. The parts add up to at most the total. */
export interface MemoryPlan {
  readonly totalBytes: number;
  /** The program, its threads' heaps, and what garbage collection has not taken back yet. */
  readonly processBytes: number;
  readonly weightBytes: number;
  /** What the model runtime needs while a step runs. */
  readonly stepBytes: number;
  /** Adapters that are being read, checked and packed, or wait for room. */
  readonly loadBytes: number;
  /** Keys and values of running sequences. */
  readonly kvBytes: number;
  /** The bank of adapter pages that a step reads. */
  readonly bankBytes: number;
  /** Packed adapters that are kept ready. */
  readonly hostCacheBytes: number;
  /** Keys and values of prompt prefixes that are kept for reuse. */
  readonly prefixBytes: number;
  /** Loads that `loadBytes` is enough for. */
  readonly maxConcurrentLoads: number;
}

type MemoryParts = Omit<MemoryPlan, 'totalBytes' | 'maxConcurrentLoads'>;

/** What the plan is made for. */
export interface MemoryNeeds {
  /** Bytes of the weights as the runtime holds them. */
  readonly weightBytes: number;
  readonly stepBytes: number;
  /** Keys and values of one sequence of the greatest length. */
  readonly sequenceBytes: number;
  /** An adapter of the highest rank, packed. */
  readonly adapterBytes: number;
  /** The bank's page of zeros. */
  readonly zeroPageBytes: number;
  readonly maxBatch: number;
  readonly maxConcurrentLoads: number;
}

/** What an operator has set; null leaves it to the plan. */
export interface MemoryWishes {
  readonly totalBytes: number;
  readonly kvBytes: number | null;
  readonly bankBytes: number | null;
  readonly hostCacheBytes: number | null;
  /** 0 keeps no prefixes. */
  readonly prefixBytes: number | null;
}

/**
 * Measured: about 320 MB for an idle server without weights and caches, and the garbage of evicted pages and read files,
 * of which V8 lets some 60 MB gather in each thread before it collects.
 */
export const PROCESS_BYTES = 440 * 2 ** 20;
/** A load holds the file, its matrices in 32 bits, and the pages, until the pages have gone to the engine. */
const COPIES_OF_A_LOAD = 3;
/** How what is left over is divided, before caps; the host cache takes what the others cannot use. */
const SHARES = { kvBytes: 0.35, bankBytes: 0.2, hostCacheBytes: 0.35, prefixBytes: 0.1 } as const;

type Divided = keyof typeof SHARES;

/**
 * Divides the memory of a process. Each of keys and values, bank and host cache gets at least what one sequence or one
 * adapter of the largest size needs, or exactly what the operator has set; what is left is shared out, no part beyond
 * what all rows of a batch could use.
 *
 * @throws PatchbayError `CONFIG_INVALID` that says how much is needed, when the total does not hold it
 */
export function planMemory(needs: MemoryNeeds, wishes: MemoryWishes): MemoryPlan {
  const fixed = {
    processBytes: PROCESS_BYTES,
    weightBytes: needs.weightBytes,
    stepBytes: needs.stepBytes,
    loadBytes: needs.maxConcurrentLoads * COPIES_OF_A_LOAD * needs.adapterBytes,
  };
  const least: Readonly<Record<Divided, number>> = {
    kvBytes: wishes.kvBytes ?? needs.sequenceBytes,
    bankBytes: wishes.bankBytes ?? needs.zeroPageBytes + needs.adapterBytes,
    hostCacheBytes: wishes.hostCacheBytes ?? needs.adapterBytes,
    prefixBytes: wishes.prefixBytes ?? 0,
  };
  const needed = sum(Object.values(fixed)) + sum(Object.values(least));
  const left = wishes.totalBytes - needed;
  if (left < 0) throw tooSmall(wishes.totalBytes, needed, { ...fixed, ...least });
  const share = (part: Divided, most: number): number => {
    if (wishes[part] !== null) return least[part];
    return Math.max(least[part], Math.min(most, least[part] + Math.floor(left * SHARES[part])));
  };
  const kvBytes = share('kvBytes', needs.maxBatch * needs.sequenceBytes);
  const bankBytes = share('bankBytes', needs.zeroPageBytes + needs.maxBatch * needs.adapterBytes);
  const prefixBytes = share('prefixBytes', needs.maxBatch * needs.sequenceBytes);
  const rest = wishes.totalBytes - sum(Object.values(fixed)) - kvBytes - bankBytes - prefixBytes;
  const hostCacheBytes = wishes.hostCacheBytes ?? rest;
  const { totalBytes } = wishes;
  const { maxConcurrentLoads } = needs;
  return { totalBytes, ...fixed, kvBytes, bankBytes, hostCacheBytes, prefixBytes, maxConcurrentLoads };
}

/** What a process may take where nothing else is set: half of the machine, or of what its container is allowed. */
export function defaultTotalBytes(machine: {
  readonly totalBytes: number;
  /** 0 where there is no limit. */
  readonly constrainedBytes: number;
}): number {
  const { totalBytes, constrainedBytes } = machine;
  const limited = constrainedBytes > 0 && constrainedBytes < totalBytes;
  return Math.floor((limited ? constrainedBytes : totalBytes) / 2);
}

/** Parts of a plan with names for people. */
export function planParts(plan: MemoryParts): MemoryReport['parts'] {
  return [
    { name: 'weights', bytes: plan.weightBytes },
    { name: 'keys and values', bytes: plan.kvBytes },
    { name: 'adapter bank', bytes: plan.bankBytes },
    { name: 'adapter cache', bytes: plan.hostCacheBytes },
    { name: 'prefixes', bytes: plan.prefixBytes },
    { name: 'loads', bytes: plan.loadBytes },
    { name: 'steps', bytes: plan.stepBytes },
    { name: 'process', bytes: plan.processBytes },
  ];
}

function tooSmall(total: number, needed: number, parts: MemoryParts): PatchbayError {
  const list = memoryText({ parts: planParts(parts) });
  return new PatchbayError(
    'CONFIG_INVALID',
    `${showBytes(total)} of memory do not hold this backbone: at least ${showBytes(needed)} are needed (${list}).`,
    {
      field: 'PATCHBAY_MEMORY_BYTES',
      fix: `Set PATCHBAY_MEMORY_BYTES to at least ${Math.ceil(needed / 2 ** 20)}MB, or lower PATCHBAY_MAX_CONTEXT or PATCHBAY_MAX_ADAPTER_RANK.`,
      meta: { totalBytes: total, neededBytes: needed },
    },
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
