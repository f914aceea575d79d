import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  fingerprint,
  installMatches,
  installStamp,
  lockIsStale,
  staleSteps,
} from '../../../bin/lib/stale.mjs';

const LINUX = { platform: 'linux', arch: 'x64' };

describe('fingerprint', () => {
  test('the order of files does not matter; names, contents and salt do', () => {
    const base = fingerprint([
      ['a', '1'],
      ['b', '2'],
    ]);
    expect(
      fingerprint([
        ['b', '2'],
        ['a', '1'],
      ]),
    ).toBe(base);
    expect(
      fingerprint([
        ['a', '1'],
        ['b', '3'],
      ]),
    ).not.toBe(base);
    expect(
      fingerprint([
        ['a', '1'],
        ['c', '2'],
      ]),
    ).not.toBe(base);
    expect(
      fingerprint(
        [
          ['a', '1'],
          ['b', '2'],
        ],
        ['x'],
      ),
    ).not.toBe(base);
  });

  test('moving bytes between a name, a file and its neighbour always shows', () => {
    const name = fc.stringMatching(/^[a-c \n]{1,4}$/);
    const files = fc.uniqueArray(fc.tuple(name, name), { selector: ([path]) => path, maxLength: 4 });
    fc.assert(
      fc.property(files, files, (left, right) => {
        const sorted = (list: typeof left) => JSON.stringify([...list].sort(([a], [b]) => (a < b ? -1 : 1)));
        return (fingerprint(left) === fingerprint(right)) === (sorted(left) === sorted(right));
      }),
      { numRuns: 2_000 },
    );
  });
});

test('an installation is for one lockfile, one Node major and one platform', () => {
  const machine = { nodeMajor: '20', ...LINUX };
  const stamps = [
    installStamp('lock', machine),
    installStamp('lock2', machine),
    installStamp('lock', { ...machine, nodeMajor: '22' }),
    installStamp('lock', { ...machine, arch: 'arm64' }),
    installStamp('lock', { ...machine, platform: 'darwin' }),
  ];
  expect(new Set(stamps).size).toBe(stamps.length);
  expect(installStamp('lock', { ...machine })).toBe(stamps[0]);
});

describe('installMatches', () => {
  const lock = {
    packages: {
      '': { version: '0.1.0' },
      'node_modules/a': { version: '1.0.0' },
      'node_modules/b-linux': { version: '1.0.0', optional: true, os: ['linux'], cpu: ['x64'] },
      'node_modules/b-mac': { version: '1.0.0', optional: true, os: ['darwin'], cpu: ['arm64'] },
    },
  };
  const whole = {
    packages: { 'node_modules/a': { version: '1.0.0' }, 'node_modules/b-linux': { version: '1.0.0' } },
  };

  test('accepts an installation that somebody made by hand, without the other platforms’ packages', () => {
    expect(installMatches(lock, whole, LINUX)).toBe(true);
  });

  test('refuses what lacks a package, or the package for this platform', () => {
    expect(installMatches(lock, { packages: {} }, LINUX)).toBe(false);
    expect(installMatches(lock, { packages: { 'node_modules/a': { version: '1.0.0' } } }, LINUX)).toBe(false);
    expect(installMatches(lock, whole, { platform: 'darwin', arch: 'arm64' })).toBe(false);
  });

  test('refuses another version, a package too many, and anything that is no lockfile', () => {
    const other = { packages: { ...whole.packages, 'node_modules/a': { version: '1.0.1' } } };
    expect(installMatches(lock, other, LINUX)).toBe(false);
    const more = { packages: { ...whole.packages, 'node_modules/z': { version: '1.0.0' } } };
    expect(installMatches(lock, more, LINUX)).toBe(false);
    for (const broken of [null, 3, {}, { packages: null }])
      expect(installMatches(lock, broken, LINUX)).toBe(false);
  });
});

test('a step is stale when its inputs changed or its outputs are gone, and only then', () => {
  const step = (name: string, inputs: string, outputsPresent: boolean) => ({ name, inputs, outputsPresent });
  const stamps = { same: '1', changed: '1', gone: '1' };
  const steps = [
    step('same', '1', true),
    step('changed', '2', true),
    step('gone', '1', false),
    step('new', '1', true),
  ];
  expect(staleSteps(steps, stamps).map((each) => each.name)).toEqual(['changed', 'gone', 'new']);
});

test('a lock is abandoned when its owner is dead or silent, and not because it cannot be seen', () => {
  const here = { host: 'h', isAlive: (pid: number) => pid === 1 };
  expect(lockIsStale({ pid: 1, host: 'h' }, 100, here)).toBe(false);
  expect(lockIsStale({ pid: 2, host: 'h' }, 100, here)).toBe(true);
  expect(lockIsStale({ pid: 2, host: 'elsewhere' }, 100, here)).toBe(false);
  expect(lockIsStale({ pid: 2, host: 'elsewhere' }, 60_000, here)).toBe(true);
  expect(lockIsStale(null, 100, here)).toBe(false);
});

test('processes that prepare at the same time take turns, also past an abandoned lock', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'patchbay lock '));
  try {
    const lock = join(dir, 'lock');
    // Left behind by a process that no longer lives: no pid is this large.
    await writeFile(lock, `4194305\n${(await import('node:os')).hostname()}\nx\n`);
    const script = `
      import fs from 'node:fs';
      import { setTimeout as sleep } from 'node:timers/promises';
      const { withLock } = await import(${JSON.stringify(pathToFileURL(resolve('bin/lib/lock.mjs')).href)});
      await withLock(${JSON.stringify(lock)}, () => {}, async () => {
        fs.appendFileSync(${JSON.stringify(join(dir, 'log'))}, 'in\\n');
        await sleep(50);
        fs.appendFileSync(${JSON.stringify(join(dir, 'log'))}, 'out\\n');
      });`;
    const run = () => promisify(execFile)(process.execPath, ['--input-type=module', '-e', script]);
    await Promise.all([run(), run(), run(), run()]);
    expect((await readFile(join(dir, 'log'), 'utf8')).trim().split('\n')).toEqual(
      Array.from({ length: 4 }, () => ['in', 'out']).flat(),
    );
    await expect(readFile(lock)).rejects.toThrow();
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
