// One preparation at a time in a clone: two `npm start` at once must not both run `npm ci`.

import fs from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { lockIsStale } from './stale.mjs';

/**
 * Runs `work` while holding the lock file, waiting for another holder first.
 * @template T
 * @param {string} path The lock file; its folder exists.
 * @param {() => void} onWait Called once when another process holds the lock.
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(path, onWait, work) {
  const token = `${process.pid}\n${os.hostname()}\n${Date.now()}-${Math.random()}\n`;
  let waited = false;
  while (!tryCreate(path, token)) {
    if (isAbandoned(path)) {
      // Renaming first makes sure that only one of several waiters removes an abandoned lock.
      const grave = `${path}.${process.pid}.old`;
      try {
        fs.renameSync(path, grave);
        fs.rmSync(grave, { force: true });
      } catch {
        // Another waiter was faster.
      }
      continue;
    }
    if (!waited) onWait();
    waited = true;
    await sleep(200);
  }
  // A living holder shows that it lives, also to a process that cannot see its pid (another container).
  const heartbeat = setInterval(() => {
    try {
      const now = new Date();
      fs.utimesSync(path, now, now);
    } catch {
      // The lock was taken away; the work is idempotent, so it goes on.
    }
  }, 2_000);
  const release = () => {
    try {
      if (fs.readFileSync(path, 'utf8') === token) fs.rmSync(path, { force: true });
    } catch {
      // Already gone.
    }
  };
  process.once('exit', release);
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    process.removeListener('exit', release);
    release();
  }
}

function tryCreate(path, token) {
  try {
    fs.writeFileSync(path, token, { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function isAbandoned(path) {
  try {
    const silentMs = Date.now() - fs.statSync(path).mtimeMs;
    const [pid, host] = fs.readFileSync(path, 'utf8').split('\n');
    const owner = Number.isInteger(Number(pid)) && host ? { pid: Number(pid), host } : null;
    return lockIsStale(owner, silentMs, { host: os.hostname(), isAlive });
  } catch {
    return false;
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
