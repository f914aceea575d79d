import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { PatchbayError } from '../kernel/errors.ts';

const keyFileSchema = z.object({
  /** Where the server of this data folder was last reached. */
  graphqlUrl: z.string().optional(),
  operator: z.object({ key: z.string() }).optional(),
  demo: z.object({ key: z.string(), tenant: z.string() }).optional(),
});

/** What a data folder remembers for the commands on the same machine; readable by its owner only. */
type KeyFile = z.infer<typeof keyFileSchema>;

/** Where the keys of a data folder are kept. */
export function keyFilePath(dataDir: string): string {
  return join(dataDir, 'keys.json');
}

/** The file's content; empty when there is no file. */
export async function readKeyFile(dataDir: string): Promise<KeyFile> {
  const path = keyFilePath(dataDir);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return {};
    throw new PatchbayError('CONFIG_INVALID', `${path} cannot be read.`, {
      fix: 'Run the command as the user who started the server, or give --key.',
      cause: error,
    });
  }
  const parsed = keyFileSchema.safeParse(tryJson(text));
  if (parsed.success) return parsed.data;
  throw new PatchbayError('CONFIG_INVALID', `${path} is damaged.`, { fix: 'Give --url and --key instead.' });
}

/** Adds to the file. It is replaced in one step, so that a reader never sees half of it. */
export async function updateKeyFile(dataDir: string, change: KeyFile): Promise<void> {
  await mkdir(dataDir, { recursive: true });
  const path = keyFilePath(dataDir);
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  const content = { ...(await readKeyFile(dataDir)), ...change };
  await writeFile(draft, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600, flag: 'wx' });
  await rename(draft, path);
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
