import { createHash } from 'node:crypto';
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PatchbayError } from '../../kernel/errors.ts';
import { type Account, accountCan, chooseAccount } from './account.ts';

/** Where the embedded database of a data folder lives. */
export interface Home {
  readonly folder: string;
  /** Postgres's own data directory. */
  readonly cluster: string;
  readonly passwordFile: string;
  readonly logFile: string;
  /** Who holds the folder, for messages; the lock itself is the kernel's. */
  readonly holderFile: string;
  /** Whether it had to leave the data folder. */
  readonly relocated: boolean;
}

function homeAt(folder: string, relocated: boolean): Home {
  return {
    folder,
    cluster: join(folder, 'cluster'),
    passwordFile: join(folder, 'password'),
    logFile: join(folder, 'postgres.log'),
    holderFile: join(folder, 'holder.json'),
    relocated,
  };
}

/** A folder outside of any user's home where this process may create things that every user can reach. */
export function writableBase(): string {
  try {
    accessSync('/var/lib', constants.W_OK | constants.X_OK);
    return '/var/lib';
  } catch {
    return realpathSync(tmpdir());
  }
}

/**
 * Decides where the database lives and as whom it runs. It is `<dataDir>/postgres`, unless this process is root and
 * the account cannot enter that folder; then it is a folder named after the data folder's path, and
 * `<dataDir>/postgres.location` remembers it. A remembered folder that is gone is refused: beginning anew in its place
 * would look like a loss of all data.
 */
export function chooseHome(dataDir: string): { readonly home: Home; readonly account: Account } {
  mkdirSync(dataDir, { recursive: true });
  const real = realpathSync(dataDir);
  const note = join(real, 'postgres.location');
  const inside = homeAt(join(real, 'postgres'), false);
  const noted = existsSync(note) ? readFileSync(note, 'utf8').trim() : '';
  if (noted === '') {
    const account = chooseAccount(inside.cluster);
    if (claim(inside, account)) return { home: inside, account };
    const hash = createHash('sha256').update(real).digest('hex').slice(0, 12);
    const outside = homeAt(join(writableBase(), `patchbay-${hash}`), true);
    if (account.switched && claim(outside, account)) {
      writeFileSync(note, `${outside.folder}\n`);
      return { home: outside, account };
    }
    throw unusable(inside);
  }
  if (!existsSync(noted)) {
    throw new PatchbayError(
      'DATABASE_UNAVAILABLE',
      `The embedded database lives in ${noted}, as ${note} says, but there is no such folder.`,
      { fix: `Restore the folder, or delete ${note} to begin with an empty database.` },
    );
  }
  const outside = homeAt(noted, true);
  const account = chooseAccount(outside.cluster);
  if (!claim(outside, account)) throw unusable(outside);
  return { home: outside, account };
}

/** Creates the folder and makes sure that the account can work in it. */
function claim(home: Home, account: Account): boolean {
  try {
    mkdirSync(home.folder, { recursive: true });
    // Outside of the data folder the path can be foreseen, so a folder that somebody else planted is not used.
    if (home.relocated && ![0, account.uid].includes(lstatSync(home.folder).uid)) return false;
    if (account.switched) {
      chmodSync(home.folder, 0o755);
      chownSync(home.folder, account.uid, account.gid);
    } else {
      accessSync(home.folder, constants.W_OK | constants.X_OK);
      if (existsSync(home.cluster)) accessSync(home.cluster, constants.R_OK | constants.W_OK);
    }
    return accountCan(account, '-x', home.folder);
  } catch {
    return false;
  }
}

function unusable(home: Home): PatchbayError {
  return new PatchbayError(
    'DATABASE_UNAVAILABLE',
    `The embedded database's folder ${home.folder} cannot be used by this user.`,
    { fix: 'Start as the user who owns it, choose another PATCHBAY_DATA_DIR, or set DATABASE_URL.' },
  );
}
