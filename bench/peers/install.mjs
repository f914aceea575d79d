// The peer's packages, which are no dependency of the product.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));

/**
 * Installs the packages here on first use, from the lockfile, without running their scripts. Not by npm ci: it refuses a
 * lockfile that leaves out the packages of other platforms.
 * @param {(text: string) => void} say
 */
export function installPeer(say) {
  if (existsSync(join(here, 'node_modules/.package-lock.json'))) return;
  say('Installing node-llama-cpp into bench/peers/node_modules …');
  execFileSync('npm', ['install', '--no-save', '--omit=optional', '--ignore-scripts', '--loglevel=error'], {
    cwd: here,
    stdio: ['ignore', process.stderr.fd, 'inherit'],
  });
}

/** The installed version of node-llama-cpp. */
export function peerVersion() {
  const text = readFileSync(join(here, 'node_modules/node-llama-cpp/package.json'), 'utf8');
  return JSON.parse(text).version;
}
