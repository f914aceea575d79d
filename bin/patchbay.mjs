#!/usr/bin/env node
// The `patchbay` command. Makes sure that the clone is prepared (quietly, and only when something is stale), then
// hands over to the compiled program.

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  process.stderr.write(`Patchbay needs Node 20.19 or newer; this is Node ${process.versions.node}.\n`);
  process.exit(1);
}

const { prepare } = await import('./lib/steps.mjs');
const code = await prepare({ quiet: true });
if (code !== 0) process.exit(code);
await import('../dist/cli.js');
