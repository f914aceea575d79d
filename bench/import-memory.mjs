// Imports a generated checkpoint of more than 2 GB and prints the peak memory of the process, which must stay near
// what an import of a small one takes. Run: npm run build && node bench/import-memory.mjs
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { importBackbone } from '../dist/backbone/import.js';
import { syntheticCheckpoint } from '../dist/bench/synthetic.js';

const name = process.argv[2] ?? 'synthetic:600m';
const dir = await syntheticCheckpoint(name);
const { size } = await stat(join(dir, 'model.safetensors'));
const root = await mkdtemp(join(tmpdir(), 'patchbay-import-'));
const before = process.memoryUsage().rss;
let peak = before;
const started = performance.now();
const { manifest } = await importBackbone({
  dir,
  root,
  bits: 32,
  onProgress: () => {
    peak = Math.max(peak, process.memoryUsage().rss);
  },
});
const seconds = (performance.now() - started) / 1000;
const mib = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
console.log(
  `${name}: ${mib(size)} of weights, ${manifest.parameters} parameters, imported in ${seconds.toFixed(1)} s`,
);
console.log(`resident before ${mib(before)}, peak ${mib(peak)}, grown by ${mib(peak - before)}`);
await rm(root, { recursive: true });
if (process.argv.includes('--discard')) await rm(dir, { recursive: true });
