// What fewer bits for the backbone's matrices cost in accuracy and save in bytes and time, on held-out cases of tasks
// that have an adapter each. The answers are fed token by token, so one pass gives probabilities and greedy answers: a
// greedy answer is right exactly if the likeliest token is the answer's at every position, an end token after the last.
// Prints Markdown. Run: npm run build && node bench/accuracy.mjs --help
import { readdir, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readAdapterFolder } from '../dist/adapter/folder.js';
import { DEFAULT_ADAPTER_LIMITS } from '../dist/adapter/limits.js';
import { importOnce } from '../dist/backbone/imported.js';
import { BACKBONE_FILES } from '../dist/backbone/manifest.js';
import { openText } from '../dist/backbone/text/open.js';
import { distance, perplexity, position } from '../dist/bench/accuracy.js';
import { packAdapter } from '../dist/engine/runner/pack.js';
import { systemClock } from '../dist/kernel/clock.js';
import { PAGE_RANK } from '../dist/serving/layout.js';
import { openRunner } from '../dist/serving/open-runner.js';
import { benchEngine, median, readFlags } from './kit.mjs';

const given = readFlags({
  backbone: 'starter/backbone',
  adapters: 'starter/adapters',
  eval: 'starter/eval',
  cases: '240',
  batch: '32',
  rounds: '3',
  requests: '64',
});
const WIDTHS = [32, 8, 4];
const dataDir = join(tmpdir(), 'patchbay-bench-data');
const tasks = (await readdir(given.eval)).flatMap((name) =>
  name.endsWith('.jsonl') ? [name.slice(0, -'.jsonl'.length)] : [],
);

async function casesOf(task, text) {
  const lines = (await readFile(join(given.eval, `${task}.jsonl`), 'utf8')).trim().split('\n');
  return lines.slice(0, Number(given.cases)).map((line) => {
    const { prompt, answer } = JSON.parse(line);
    const answerIds = text.tokenizer.encode(answer, { addSpecialTokens: false });
    return { promptIds: text.encodePrompt(prompt), answerIds };
  });
}

/** Feeds a batch of cases; returns the positions of each answer and whether its greedy answer is right. */
async function feed(runner, cases, adapters, eosTokenIds) {
  const live = cases.map((one) => ({
    ...one,
    row: runner.open(one.promptIds.length + one.answerIds.length + 1),
    tokens: one.promptIds,
    past: 0,
    positions: [],
    right: false,
  }));
  let rest = live;
  while (rest.length > 0) {
    const { logits } = await runner.run(
      rest.map(({ row, tokens, past }) => ({
        row,
        tokens,
        past,
        adapters,
        wantsLogits: true,
        greedy: false,
      })),
    );
    rest.forEach((one, index) => {
      const at = one.positions.length;
      const wanted = one.answerIds[at];
      const seen = position(logits[index], wanted ?? eosTokenIds[0]);
      one.past += one.tokens.length;
      one.tokens = [wanted];
      if (wanted !== undefined) one.positions.push(seen);
      else {
        const same = one.positions.every(({ best }, place) => best === one.answerIds[place]);
        one.right = same && eosTokenIds.includes(seen.best);
        one.ended = true;
        runner.close(one.row);
      }
    });
    rest = rest.filter(({ ended }) => ended !== true);
  }
  return live;
}

async function evaluate(bits) {
  const backbone = await importOnce({ dir: given.backbone, root: join(dataDir, 'backbones'), bits });
  const { shape, digest: backboneDigest, eosTokenIds } = backbone.manifest;
  const settings = {
    maxContext: null,
    kvBytes: 2 ** 30,
    bankBytes: 2 ** 28,
    intraOpThreads: 0,
    executionProviders: ['cpu'],
  };
  const runner = await openRunner(backbone.dir, backbone.manifest, settings, { clock: systemClock });
  const text = openText(backbone.dir, backbone.manifest);
  const context = { shape, backboneDigest, limits: DEFAULT_ADAPTER_LIMITS };
  const positions = [];
  const right = {};
  for (const task of tasks) {
    const weights = await readAdapterFolder(join(given.adapters, task), context);
    const adapters = [{ adapter: packAdapter(weights, shape, PAGE_RANK), weight: 1 }];
    const cases = await casesOf(task, text);
    const done = [];
    for (let from = 0; from < cases.length; from += Number(given.batch)) {
      const batch = cases.slice(from, from + Number(given.batch));
      done.push(...(await feed(runner, batch, adapters, eosTokenIds)));
    }
    positions.push(...done.flatMap((one) => one.positions));
    right[task] = done.filter((one) => one.right).length / done.length;
    console.error(`${bits} bits, ${task}: ${(100 * right[task]).toFixed(1)} % of ${done.length} right`);
  }
  await runner.dispose();
  const { size: bytes } = await stat(join(backbone.dir, BACKBONE_FILES.data));
  return { positions, right, bytes };
}

const speeds = Object.fromEntries(WIDTHS.map((bits) => [bits, []]));
for (let round = 0; round < Number(given.rounds); round++) {
  for (const bits of WIDTHS) {
    const { backbone, requests } = given;
    const report = await benchEngine({ backbone, bits, requests, workload: 'distinct' }, dataDir);
    speeds[bits].push(report.decodeTokensPerSecond);
  }
}
const results = {};
for (const bits of WIDTHS) {
  const { positions, ...rest } = await evaluate(bits);
  results[bits] = { ...rest, perplexity: perplexity(positions) };
  if (bits === 32) results.reference = positions;
  else results[bits].distance = distance(results.reference, positions);
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const row = (label, cell) => `| ${[label, ...WIDTHS.map((bits) => cell(results[bits], bits))].join(' | ')} |`;
const far = (of) => (result) => (result.distance === undefined ? '' : of(result.distance));
console.log(
  [
    `| \`${given.backbone}\`, ${results.reference.length} positions | 32 bits | 8 bits | 4 bits |`,
    '| --- | ---: | ---: | ---: |',
    ...tasks.map((task) => row(`\`${task}\`, right answers`, ({ right }) => percent(right[task]))),
    row('perplexity of the answers', (result) => result.perplexity.toFixed(4)),
    row(
      'mean divergence from 32 bits, nats',
      far(({ meanKl }) => meanKl.toExponential(1)),
    ),
    row(
      'log-probability of a token, mean difference',
      far(({ meanLogprobDifference }) => meanLogprobDifference.toFixed(4)),
    ),
    row(
      'the same, largest',
      far(({ maxLogprobDifference }) => maxLogprobDifference.toFixed(2)),
    ),
    row(
      'likeliest token is the same',
      far(({ sameBest }) => percent(sameBest, 2)),
    ),
    row('stored weights, MB', ({ bytes }) => (bytes / 1e6).toFixed(2)),
    row('decode tokens/s, 16 distinct adapters', (_, bits) => median(speeds[bits]).toFixed(0)),
  ].join('\n'),
);
