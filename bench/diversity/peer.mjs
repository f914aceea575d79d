// The peer at a point of the diversity bench: node-llama-cpp with the same shapes, ranks, prompts and popularity.
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { diversityRequests } from '../../dist/bench/diversity/requests.js';
import { quantile } from '../../dist/bench/sim/metrics.js';
import { adapterGguf, backboneGguf, checkpointOf } from '../peers/convert.mjs';
import { runPeer } from '../peers/engines.mjs';
import { bestSettings } from '../peers/settings.mjs';

/** Contexts that are kept open; an adapter beyond them needs another's to be closed first. */
const CONTEXTS = 32;

/** One run in a process of its own, as a sample like Patchbay's. */
export async function measurePeer({ spec, round, load }) {
  const checkpoint = await checkpointOf(load.backbone);
  const folder = join(tmpdir(), 'patchbay-peers', load.backbone.replace(':', '-'));
  const requests = diversityRequests({ spec, round, load }, checkpoint.shape.vocabSize);
  const paths = new Map();
  for (const { adapter } of requests) {
    if (!paths.has(adapter)) {
      paths.set(
        adapter,
        await adapterGguf(checkpoint, spec.ranks[adapter % spec.ranks.length], adapter, folder),
      );
    }
  }
  const one = spec.adapters === 1;
  const { tokensPerSecond, rssBytes, times } = await runPeer({
    model: await backboneGguf(checkpoint, 'F32', folder),
    loras: Array.from({ length: spec.streams }, () => (one ? paths.get(0) : null)),
    ...(one ? {} : { lorasOfRequests: requests.map(({ adapter }) => paths.get(adapter)) }),
    contexts: CONTEXTS,
    separate: false,
    prompts: requests.map(({ promptIds }) => [...promptIds]),
    newTokens: load.newTokens,
    settings: bestSettings(one ? 'identical' : 'distinct'),
    kvType: 'F16',
    keepTokens: false,
  });
  const latency = (values) => ({ p50: quantile(values, 0.5), p95: quantile(values, 0.95) });
  const first = ({ sentMs, timesMs }) => timesMs.slice(0, 1).map((time) => time - sentMs);
  const gaps = ({ timesMs }) => timesMs.slice(1).map((time, i) => time - timesMs[i]);
  return {
    spec,
    round,
    tokensPerSecond,
    ttftMs: latency(times.flatMap(first)),
    interTokenMs: latency(times.flatMap(gaps)),
    rssBytes,
    engine: null,
    loads: null,
    classes: [],
    swap: null,
    privateBytes: null,
  };
}
