import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PatchbayError } from '../../kernel/errors.ts';

/** The operating-system account that the database runs as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** Whether this process must switch to the account: true only when it runs as root. */
  readonly switched: boolean;
}

/** What `child_process` needs to run something as the account. */
export function spawnAs(account: Account): { readonly uid?: number; readonly gid?: number } {
  return account.switched ? { uid: account.uid, gid: account.gid } : {};
}

/**
 * Chooses the account: this process's own, unless it is root, as which Postgres refuses to run. Then it is the owner
 * of an existing cluster, else the user `postgres`, who is created when the machine has none.
 */
export function chooseAccount(cluster: string): Account {
  const uid = process.getuid?.() ?? 0;
  const gid = process.getgid?.() ?? 0;
  if (uid !== 0) return { uid, gid, switched: false };
  if (existsSync(join(cluster, 'PG_VERSION'))) {
    const owner = statSync(cluster);
    if (owner.uid !== 0) return { uid: owner.uid, gid: owner.gid, switched: true };
  }
  const known = lookUp('postgres') ?? createAndLookUp('postgres');
  if (known !== null) return { ...known, switched: true };
  throw new PatchbayError(
    'DATABASE_UNAVAILABLE',
    'Postgres refuses to run as root, and the user "postgres" could not be created.',
    { fix: 'Create a user named "postgres", start as another user, or set DATABASE_URL.' },
  );
}

function lookUp(name: string): { uid: number; gid: number } | null {
  try {
    const ask = (flag: string) =>
      Number.parseInt(execFileSync('id', [flag, name], { encoding: 'utf8', stdio: 'pipe' }), 10);
    return { uid: ask('-u'), gid: ask('-g') };
  } catch {
    return null;
  }
}

/** Creates a system account with whichever tool the distribution has (shadow's useradd, or busybox's adduser). */
function createAndLookUp(name: string): { uid: number; gid: number } | null {
  const attempts: readonly (readonly [string, readonly string[]])[] = [
    ['useradd', ['--system', '--user-group', '--no-create-home', '--shell', '/bin/false', name]],
    ['adduser', ['-S', '-D', '-H', '-s', '/bin/false', name]],
  ];
  for (const [command, args] of attempts) {
    const result = spawnSync(command, args, { stdio: 'ignore' });
    const found = result.status === 0 ? lookUp(name) : null;
    if (found !== null) return found;
  }
  return null;
}

/** Whether the account may read (`-r`) or enter or execute (`-x`) the path, asked of the kernel as that account. */
export function accountCan(account: Account, flag: '-r' | '-x', path: string): boolean {
  const script = `test ${flag} "$1"`;
  const result = spawnSync('/bin/sh', ['-c', script, 'sh', path], {
    ...spawnAs(account),
    cwd: '/',
    stdio: 'ignore',
  });
  return result.status === 0;
}
