import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PatchbayError } from '../kernel/errors.ts';
import type { Config } from './config.ts';

/**
 * The secret that keys the hashes of API keys: the configured one, or one made once and kept in the data folder,
 * readable by its owner only.
 */
export async function resolveSecret(data: Config['data']): Promise<string> {
  if (data.secret !== null) return data.secret;
  const file = join(data.dir, 'secret');
  await mkdir(data.dir, { recursive: true });
  // Linking a complete file: of two processes that start at once, the second reads the whole of what the first wrote.
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  await writeFile(draft, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600, flag: 'wx' });
  try {
    await link(draft, file);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  } finally {
    await rm(draft, { force: true });
  }
  const secret = (await readFile(file, 'utf8')).trim();
  if (secret.length < 32) {
    throw new PatchbayError('CONFIG_INVALID', `The secret in ${file} is damaged.`, {
      fix: 'Restore the file from a backup, or delete it: every API key must then be made anew.',
    });
  }
  return secret;
}
