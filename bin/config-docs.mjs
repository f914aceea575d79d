#!/usr/bin/env node
// Writes docs/reference/configuration.md out of the table in src/config. `--check` only says whether it is current.
import fs from 'node:fs';
import path from 'node:path';
import { prepare, root } from './lib/steps.mjs';

const code = await prepare({ quiet: true });
if (code !== 0) process.exit(code);
const { configurationReference } = await import('../dist/config/reference.js');
const file = path.join(root, 'docs/reference/configuration.md');
const wanted = configurationReference();
const current = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : null;
if (current !== wanted && process.argv.includes('--check')) {
  process.stderr.write('docs/reference/configuration.md is not current; run: npm run docs:config\n');
  process.exit(1);
}
if (current !== wanted) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, wanted);
  process.stdout.write('Wrote docs/reference/configuration.md\n');
}
