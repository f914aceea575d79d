#!/usr/bin/env node
// Makes a clone ready to run: dependencies, generated code, compiled program. Needs nothing but Node itself, because
// it runs before anything is installed. Each step is skipped while the contents of its inputs are unchanged.
//
//   node bin/prepare.mjs              prepare what is stale
//   node bin/prepare.mjs --generate   only generate code (Prisma client, GraphQL types)
//   node bin/prepare.mjs --check      exit 1 when something is stale; change nothing
//   node bin/prepare.mjs --quiet      print only what takes time

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  // Old Node versions would fail below with a syntax error, which tells a newcomer nothing.
  process.stderr.write(
    `Patchbay needs Node 20.19 or newer; this is Node ${process.versions.node}.\n` +
      'Install a current version from https://nodejs.org and try again.\n',
  );
  process.exit(1);
}

const { prepare } = await import('./lib/steps.mjs');

const known = new Set(['--generate', '--check', '--quiet']);
const unknown = process.argv.slice(2).filter((argument) => !known.has(argument));
if (unknown.length > 0) {
  process.stderr.write(`prepare: unknown option ${unknown.join(' ')} (known: ${[...known].join(', ')})\n`);
  process.exit(2);
}

process.exitCode = await prepare({
  generateOnly: process.argv.includes('--generate'),
  checkOnly: process.argv.includes('--check'),
  quiet: process.argv.includes('--quiet'),
});
