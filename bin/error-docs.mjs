#!/usr/bin/env node
// Writes docs/reference/errors.md out of the registry in src/kernel/codes. `--check` only says whether it is current.
import fs from 'node:fs';
import path from 'node:path';
import { prepare, root } from './lib/steps.mjs';

const OUTPUT = 'docs/reference/errors.md';
const SOURCE = 'src/kernel/codes';
const PARTS = ['general', 'models', 'money', 'proofs'];

const code = await prepare({ quiet: true });
if (code !== 0) process.exit(code);
const { ERROR_CODES } = await import('../dist/kernel/codes.js');
const { exitCodeOf } = await import('../dist/cli/exit-codes.js');

const file = path.join(root, OUTPUT);
const wanted = reference();
const current = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : null;
if (current !== wanted && process.argv.includes('--check')) {
  process.stderr.write(`${OUTPUT} is not current; run: node bin/error-docs.mjs\n`);
  process.exit(1);
}
if (current !== wanted) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, wanted);
  process.stdout.write(`Wrote ${OUTPUT}\n`);
}

function reference() {
  return [
    '# Error codes',
    '',
    `<!-- Generated from ${SOURCE} by \`node bin/error-docs.mjs\`; do not edit. -->`,
    '',
    'Every error has a code that keeps its meaning, a message that says what happened, and a fix that says what to do.',
    'GraphQL carries them in `extensions` of an error or in `userErrors` of a mutation, an upload answer in its JSON body,',
    'the command line on stderr. New codes may be added. The fix below is the usual one; an error may bring a more precise',
    'one. *HTTP* is the status where the transport has one ([graphql.md](graphql.md#status-codes) says when), *exit* is how',
    'a command ends with it ([cli.md](cli.md#exit-codes)).',
    ...sections().flatMap(({ title, names }) => [
      '',
      `## ${title}`,
      '',
      '| Code | HTTP | Exit | Meaning | Fix |',
      '|---|---|---|---|---|',
      ...names.map(row),
    ]),
    '',
  ].join('\n');
}

function row(name) {
  const { status, meaning, fix } = ERROR_CODES[name];
  return `| \`${name}\` | ${status} | ${exitCodeOf(name)} | ${cell(meaning)} | ${cell(fix)} |`;
}

function cell(text) {
  return text.replaceAll('|', '\\|');
}

/** The codes under the headings that the comments of the sources give them. */
function sections() {
  const found = [];
  const lines = PARTS.flatMap((part) =>
    fs.readFileSync(path.join(root, SOURCE, `${part}.ts`), 'utf8').split('\n'),
  );
  for (const line of lines) {
    const title = /^ {2}\/\/ (.+)$/.exec(line)?.[1];
    const name = /^ {2}([A-Z][A-Z0-9_]*): \{/.exec(line)?.[1];
    if (title !== undefined) found.push({ title, names: [] });
    if (name !== undefined) found.at(-1).names.push(name);
  }
  const listed = found.flatMap(({ names }) => names);
  const missing = Object.keys(ERROR_CODES).filter((name) => !listed.includes(name));
  if (missing.length > 0) throw new Error(`${SOURCE} is not laid out as expected: ${missing.join(', ')}`);
  return found;
}
