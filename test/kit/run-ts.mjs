// Runs a TypeScript module in a process of its own, which plain Node 20 cannot: node run-ts.mjs <module> [arguments].
import { resolve } from 'node:path';
import { runnerImport } from 'vite';

const [module, ...args] = process.argv.slice(2);
process.argv.splice(1, process.argv.length - 1, module, ...args);
await runnerImport(resolve(module));
