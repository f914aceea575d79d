// Scheduling policies side by side in the simulator: the engine's own scheduler over hours of made traffic.
// Costs of steps and adapters are in bench/sim-costs.json. Writes Markdown.
// Run: npm run bench:sim [-- minutes of each run] [seed] [costs.json]
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { prepare } from '../bin/lib/steps.mjs';

const code = await prepare({ quiet: true });
if (code !== 0) process.exit(code);
const { simReport } = await import('../dist/bench/sim/report.js');
const [minutes = '30', seed = '1', file = fileURLToPath(new URL('sim-costs.json', import.meta.url))] =
  process.argv.slice(2);
const costs = JSON.parse(await readFile(file, 'utf8'));
for (const part of simReport({ costs, seed: Number(seed), untilMs: Number(minutes) * 60_000 })) {
  process.stdout.write(part);
}
