// What the benchmark says: medians of paired ratios beside the targets of the project.
import { cpus, totalmem } from 'node:os';
import { backboneCost, byteBound as boundOfBytes } from '../../dist/bench/roofline.js';
import { PAGE_RANK, pageBytes } from '../../dist/serving/layout.js';
import { median } from '../kit.mjs';

const TARGETS = {
  'synthetic:30m 32': { none: 2.3, identical: 1.8, distinct: 6 },
  'synthetic:135m 32': { none: 1.8, identical: 1.9, distinct: 4.4 },
  'synthetic:30m 8': { none: 2.5, identical: 1.7, distinct: 2.5 },
  'synthetic:135m 8': { none: 1.5, identical: 1.3, distinct: 2 },
};
const DIVERSITY_TARGETS = { 32: 0.9, 8: 0.75 };

/** Medians of a configuration's pairs `{ peer, patchbay }` of tokens per second. */
export function summarize({ backbone, bits, workload, pairs }) {
  const ratios = pairs.map(({ peer, patchbay }) => patchbay / peer);
  return {
    backbone,
    bits,
    workload,
    rounds: pairs.length,
    peer: median(pairs.map(({ peer }) => peer)),
    patchbay: median(pairs.map(({ patchbay }) => patchbay)),
    ratio: median(ratios),
    range: [Math.min(...ratios), Math.max(...ratios)],
    target: TARGETS[`${backbone} ${bits}`]?.[workload] ?? null,
    pairs,
  };
}

/**
 * Patchbay's own distinct ÷ identical of every round in which both were measured, beside the ratio that the bytes of
 * float32 adapters alone would allow were a step nothing but reading.
 */
export function diversity(runs, { backbone, bits }, byteBound) {
  const of = (workload) => runs.find((run) => run.workload === workload)?.pairs ?? [];
  const identical = of('identical');
  const ratios = of('distinct').flatMap(({ patchbay }, round) =>
    identical[round] === undefined ? [] : [patchbay / identical[round].patchbay],
  );
  if (ratios.length === 0) return null;
  return { backbone, bits, ratio: median(ratios), target: DIVERSITY_TARGETS[bits] ?? null, byteBound };
}

/** Bytes of one shared adapter and the weights over those of the streams' own and the weights. */
export function byteBound(shape, bits, rank, streams) {
  const adapter = Math.ceil(rank / PAGE_RANK) * pageBytes(shape);
  return boundOfBytes(backboneCost(shape, bits).weightBytes, new Array(streams).fill(adapter));
}

const whole = (value) => Math.round(value).toLocaleString('en-US');

/** A Markdown report. */
export function markdown({ summaries, diversities, command, peerVersion, commit, loadBefore }) {
  const rows = summaries.map(({ backbone, bits, workload, peer, patchbay, ratio, range, target }) => {
    const verdict = target === null ? '' : `≥ ${target.toFixed(1)}${ratio >= target ? '' : ' (missed)'}`;
    const spread = `${range[0].toFixed(2)} to ${range[1].toFixed(2)}`;
    const label = `${backbone.replace('synthetic:', '')} ${bits === 32 ? 'F32' : `${bits}-bit`}`;
    return `| ${label} | ${workload} | ${whole(peer)} | ${whole(patchbay)} | ${ratio.toFixed(2)} | ${spread} | ${verdict} |`;
  });
  const lines = [
    `Output tokens per second end to end; ratio is Patchbay ÷ node-llama-cpp, median of ${summaries[0]?.rounds ?? 0} paired runs.`,
    '',
    '| weights | adapters | node-llama-cpp | Patchbay | ratio | range | target |',
    '| --- | --- | ---: | ---: | ---: | --- | --- |',
    ...rows,
    '',
    ...diversities.map(
      ({ backbone, bits, ratio, target, byteBound: bound }) =>
        `Patchbay ${backbone} ${bits}-bit, distinct ÷ identical: ${ratio.toFixed(2)} (target ≥ ${target}; by the bytes of float32 adapters alone ${bound.toFixed(2)}).`,
    ),
    '',
    `${machine()} Node ${process.versions.node}, node-llama-cpp ${peerVersion}, Patchbay ${commit}. Load average before: ${loadBefore.toFixed(1)}.`,
    `Command: \`${command}\``,
  ];
  return `${lines.join('\n')}\n`;
}

function machine() {
  const all = cpus();
  return `${all[0]?.model.trim() ?? 'unknown processor'}, ${all.length} threads, ${Math.round(totalmem() / 2 ** 30)} GiB.`;
}
