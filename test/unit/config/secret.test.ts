import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/config.ts';
import { resolveSecret } from '../../../src/config/secret.ts';

let dir = '';
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'patchbay secret '));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

const dataOf = (environment: Record<string, string> = {}) =>
  loadConfig({ PATCHBAY_DATA_DIR: dir, ...environment }).config.data;

test('the secret is made once and only its owner can read it', async () => {
  const first = await resolveSecret(dataOf());
  expect(first).toMatch(/^[0-9a-f]{64}$/);
  expect(await resolveSecret(dataOf())).toBe(first);
  expect((await stat(join(dir, 'secret'))).mode & 0o777).toBe(0o600);
});

test('processes that start at the same moment agree on one secret', async () => {
  const secrets = await Promise.all(Array.from({ length: 20 }, () => resolveSecret(dataOf())));
  expect(new Set(secrets).size).toBe(1);
});

test('a configured secret is used as it is and nothing is written', async () => {
  const secret = 's'.repeat(32);
  expect(await resolveSecret(dataOf({ PATCHBAY_SECRET: secret }))).toBe(secret);
  await expect(readFile(join(dir, 'secret'))).rejects.toThrow();
});

test('a damaged secret is refused rather than replaced', async () => {
  await writeFile(join(dir, 'secret'), 'oops');
  await expect(resolveSecret(dataOf())).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
});
