#!/usr/bin/env node
// `npm run demo:proof`: prepares the clone, then shows the whole way of a proof in a temporary folder, which stays for a look.
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import './prepare.mjs';

if (!process.exitCode) {
  const { prove } = await import('./demo/proof.mjs');
  const folder = await mkdtemp(join(tmpdir(), 'patchbay-proof-'));
  const started = performance.now();
  const proven = await prove({ folder, say: (line) => console.log(line) });
  const seconds = ((performance.now() - started) / 1_000).toFixed(0);
  console.log(
    `\n${proven.answers} requests, ${proven.epochs} epochs on the chain, ${proven.verified} receipts verified, ` +
      `${proven.frauds.length} of ${proven.frauds.length} frauds found, in ${seconds} s. What each party holds is in ${folder}.`,
  );
}
