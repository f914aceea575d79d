// The settings at which node-llama-cpp is measured. README.md says how they were found.

/**
 * @typedef {object} PeerSettings
 * @property {number} uvThreads `UV_THREADPOOL_SIZE`: decoding and sampling both run in libuv's pool
 * @property {number} threads of ggml, for every context
 * @property {boolean | 'auto'} flashAttention
 * @property {number} batchSize tokens of one decode, for every context
 * @property {'evaluate' | 'controlled'} api which of the two ways to generate tokens
 */

/**
 * The best settings found for a workload.
 * @returns {PeerSettings}
 */
export function bestSettings(workload) {
  return workload === 'distinct'
    ? { uvThreads: 4, threads: 1, flashAttention: true, batchSize: 1024, api: 'evaluate' }
    : { uvThreads: 1, threads: 2, flashAttention: true, batchSize: 1024, api: 'evaluate' };
}

/** What `--explore` tries for a workload: the best settings, and each of them changed. */
export function candidateSettings(workload) {
  const best = bestSettings(workload);
  const pools = workload === 'distinct' ? [2, 16] : [4];
  return [
    best,
    { ...best, flashAttention: 'auto' },
    { ...best, flashAttention: false },
    ...pools.map((uvThreads) => ({ ...best, uvThreads })),
    { ...best, threads: 3 - best.threads },
    { ...best, batchSize: 512 },
    { ...best, api: 'controlled' },
  ];
}
