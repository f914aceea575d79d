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
    ? { uvThreads: 4, threads: 1, flashAttention: 'auto', batchSize: 1024, api: 'evaluate' }
    : { uvThreads: 1, threads: 2, flashAttention: 'auto', batchSize: 1024, api: 'evaluate' };
}

/** What `--explore` tries for a workload. */
export function candidateSettings(workload) {
  const uvThreads = workload === 'distinct' ? [2, 4, 16] : [1, 4];
  const threads = workload === 'distinct' ? [1, 2] : [1, 2];
  const candidates = [];
  for (const uv of uvThreads) {
    for (const count of threads) {
      for (const flashAttention of [true, false]) {
        candidates.push({ ...bestSettings(workload), uvThreads: uv, threads: count, flashAttention });
      }
    }
  }
  const best = bestSettings(workload);
  candidates.push({ ...best, batchSize: 512 }, { ...best, batchSize: 64 }, { ...best, api: 'controlled' });
  return candidates;
}
