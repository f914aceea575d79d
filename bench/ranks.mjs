// What mixed ranks cost: distinct adapters of ranks 8, 16, 40 and 64 in turn against distinct ones of rank 32, which are
// as many numbers, alternating. Run: npm run build && node bench/ranks.mjs --help
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchEngine, readFlags, spread } from './kit.mjs';

const given = readFlags({
  backbone: 'synthetic:30m',
  bits: '32',
  mixed: '8,16,40,64',
  uniform: '32',
  streams: '16',
  requests: '64',
  rounds: '5',
});
const { backbone, bits, streams, requests } = given;
const sides = { mixed: given.mixed, uniform: given.uniform };
const rates = { mixed: [], uniform: [] };
const decode = { mixed: [], uniform: [] };
for (let round = 0; round < Number(given.rounds); round++) {
  for (const side of round % 2 === 0 ? ['mixed', 'uniform'] : ['uniform', 'mixed']) {
    const report = await benchEngine(
      { backbone, bits, streams, requests, workload: 'distinct', ranks: sides[side] },
      join(tmpdir(), 'patchbay-bench-data'),
    );
    rates[side].push(report.tokensPerSecond);
    decode[side].push(report.decodeTokensPerSecond);
    console.error(
      `round ${round + 1}, ranks ${sides[side]}: ${report.tokensPerSecond.toFixed(0)} tokens/s, ` +
        `${report.decodeTokensPerSecond.toFixed(0)} in decode`,
    );
  }
}
const ratios = (of) => of.mixed.map((rate, round) => rate / of.uniform[round]);
console.log(
  `${backbone} ${bits}-bit, ${streams} streams, ranks ${given.mixed} ÷ rank ${given.uniform}: ` +
    `${spread(ratios(rates))} end to end, ${spread(ratios(decode))} in decode (median and range of ${given.rounds})`,
);
for (const [side, ranks] of Object.entries(sides)) {
  console.log(`ranks ${ranks}: ${spread(rates[side], 0)} tokens/s, ${spread(decode[side], 0)} in decode`);
}
