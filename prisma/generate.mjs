#!/usr/bin/env node
// Generates the Prisma client into src/db/generated, without a network and without any change when it is current.
// Usage: node prisma/generate.mjs [--force]; or import { generate } and await generate({ force, log }).
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, 'src/db/generated/.stamp');

/** Digest of everything that the generated client depends on. */
function stamp() {
  const hash = createHash('sha256');
  const folder = join(root, 'prisma/schema');
  const prismaPackage = join(root, 'node_modules/prisma/package.json');
  const files = readdirSync(folder).filter((name) => name.endsWith('.prisma'));
  for (const name of files.sort()) hash.update(`${name}\0`).update(readFileSync(join(folder, name)));
  hash.update(JSON.parse(readFileSync(prismaPackage, 'utf8')).version);
  return hash.digest('hex');
}

/**
 * Brings src/db/generated up to date with prisma/schema.
 * @param {{ force?: boolean, log?: (line: string) => void }} [options]
 * @returns {Promise<boolean>} whether anything was generated
 */
export async function generate({ force = false, log = () => {} } = {}) {
  const wanted = stamp();
  if (!force && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === wanted) return false;
  const cli = createRequire(import.meta.url).resolve('prisma/build/index.js');
  // `generate` starts no schema engine, but it downloads one unless a path to some executable is given.
  const env = {
    ...process.env,
    PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
    CHECKPOINT_DISABLE: '1',
  };
  const child = spawn(process.execPath, [cli, 'generate', '--no-hints'], { cwd: root, env });
  let output = '';
  const collect = (chunk) => {
    output += chunk;
    for (const line of String(chunk).split('\n')) if (line.trim() !== '') log(line);
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const code = await new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  if (code !== 0) throw new Error(`prisma generate failed with exit code ${code}:\n${output}`);
  writeFileSync(stampFile, wanted);
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const done = await generate({ force: process.argv.includes('--force'), log: (line) => console.log(line) });
  if (!done) console.log('The Prisma client is up to date.');
}
