// The pure part of preparation: what is stale, decided from contents alone. Times of files are never consulted,
// because git sets them to the moment of the checkout.

import { createHash } from 'node:crypto';

/**
 * Hashes a set of files by name and contents.
 * @param {Iterable<readonly [string, string | Uint8Array]>} files Relative path and contents, in any order.
 * @param {readonly string[]} salt What else the outcome depends on, such as versions and arguments.
 * @returns {string} Lower-case hex.
 */
export function fingerprint(files, salt = []) {
  const hash = createHash('sha256');
  for (const part of salt) hash.update(`salt ${part.length} ${part}\n`);
  for (const [path, contents] of [...files].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) {
    hash.update(`file ${path.length} ${path} ${contents.length}\n`);
    hash.update(contents);
  }
  return hash.digest('hex');
}

/**
 * What an installation depends on: the lockfile, and the platform that native packages were chosen for.
 * @param {string | Uint8Array} lockfile Contents of package-lock.json.
 * @param {{ nodeMajor: string, platform: string, arch: string }} machine The running Node.
 */
export function installStamp(lockfile, machine) {
  return fingerprint(
    [['package-lock.json', lockfile]],
    [`node ${machine.nodeMajor}`, machine.platform, machine.arch],
  );
}

/**
 * Whether node_modules holds what the lockfile names, judged by npm's own record of what it installed. This
 * recognises an installation that somebody made by hand, so that preparing never repeats it.
 * @param {unknown} lock Parsed package-lock.json.
 * @param {unknown} installed Parsed node_modules/.package-lock.json.
 * @param {{ platform: string, arch: string }} machine The running Node.
 */
export function installMatches(lock, installed, machine) {
  const wanted = packagesOf(lock);
  const present = packagesOf(installed);
  if (wanted === null || present === null) return false;
  for (const [path, entry] of Object.entries(present)) {
    if (path !== '' && wanted[path]?.version !== entry.version) return false;
  }
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '' || present[path] !== undefined) continue;
    // An optional package may be absent, unless it is the one for this very platform.
    const optional = entry.optional === true || entry.devOptional === true || entry.peer === true;
    if (!optional || isForPlatform(entry, machine)) return false;
  }
  return true;
}

function packagesOf(lock) {
  const packages = typeof lock === 'object' && lock !== null ? lock.packages : undefined;
  return typeof packages === 'object' && packages !== null ? packages : null;
}

/** Packages that name no platform are not tied to one; musl builds are left to npm's own judgement. */
function isForPlatform(entry, machine) {
  if (!Array.isArray(entry.os) || !Array.isArray(entry.cpu) || Array.isArray(entry.libc)) return false;
  return entry.os.includes(machine.platform) && entry.cpu.includes(machine.arch);
}

/**
 * The steps that must run: those whose stamp differs from their inputs, or whose outputs are missing.
 * @template {{ name: string, inputs: string, outputsPresent: boolean }} S
 * @param {readonly S[]} steps Steps in order with the fingerprint of their inputs.
 * @param {Readonly<Record<string, string>>} stamps Fingerprints of the last successful runs by step name.
 * @returns {S[]}
 */
export function staleSteps(steps, stamps) {
  return steps.filter((step) => !step.outputsPresent || stamps[step.name] !== step.inputs);
}

/**
 * Whether a lock file's owner is gone.
 * @param {{ pid: number, host: string } | null} owner What the lock file says; null when it is unreadable.
 * @param {number} silentMs Time since the owner last touched it.
 * @param {{ host: string, isAlive: (pid: number) => boolean }} here
 */
export function lockIsStale(owner, silentMs, here) {
  if (silentMs > 20_000) return true;
  return owner !== null && owner.host === here.host && !here.isAlive(owner.pid);
}
