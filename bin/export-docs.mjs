#!/usr/bin/env node
// Writes docs/reference/exports.md out of the definitions in src/exports. `--check` only says whether it is current.
import fs from 'node:fs';
import path from 'node:path';
import { prepare, root } from './lib/steps.mjs';

const code = await prepare({ quiet: true });
if (code !== 0) process.exit(code);
const { exportsReference } = await import('../dist/exports/reference.js');
const file = path.join(root, 'docs/reference/exports.md');
const wanted = exportsReference();
const current = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : null;
if (current !== wanted && process.argv.includes('--check')) {
  process.stderr.write('docs/reference/exports.md is not current; run: npm run docs:exports\n');
  process.exit(1);
}
if (current !== wanted) {
  fs.writeFileSync(file, wanted);
  process.stdout.write('Wrote docs/reference/exports.md\n');
}
