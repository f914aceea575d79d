#!/usr/bin/env node
// `npm start`: prepares the clone, then becomes the server. One process does both, so that a signal to npm reaches
// the server without a shell in between, and so that npm's `ignore-scripts` setting, which also turns off `prestart`,
// cannot leave a clone unprepared.
// Flags are the server's; preparing has others.
const flags = process.argv.splice(2);
await import('./prepare.mjs');
process.argv.push(...flags);

if (!process.exitCode) await import('../dist/main.js');
