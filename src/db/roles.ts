import { createHmac } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { PatchbayError } from '../kernel/errors.ts';
import { mapDatabaseError, SQLSTATE, sqlState } from './errors.ts';

/** The roles that the program logs in as; migration 0001 creates them. */
export const LOGIN_ROLES = { app: 'patchbay_app', system: 'patchbay_system' } as const;

/** Connection URLs of the two roles. Secret. */
export interface RoleUrls {
  /** Tenant-scoped work: sees nothing unless a tenant is set. */
  readonly appUrl: string;
  /** Background and operator work. */
  readonly systemUrl: string;
}

/** How to make the roles usable. */
export interface RoleOptions {
  readonly adminUrl: string;
  /** Server-side secret that the roles' passwords are derived from; the same for all processes on a database. */
  readonly secret: string;
}

/**
 * Makes the two roles able to log in and answers their URLs. Passwords are derived from the secret, so processes that
 * share a database agree without talking; a password is set only when logging in with it fails, so that a start
 * does not disturb the processes that already run.
 */
export async function ensureRoles(options: RoleOptions): Promise<RoleUrls> {
  const urls = {
    appUrl: roleUrl(options, LOGIN_ROLES.app),
    systemUrl: roleUrl(options, LOGIN_ROLES.system),
  };
  try {
    if (!(await canLogIn(urls.appUrl))) await setPassword(options, LOGIN_ROLES.app);
    if (!(await canLogIn(urls.systemUrl))) await setPassword(options, LOGIN_ROLES.system);
  } catch (error) {
    throw mapDatabaseError(error);
  }
  return urls;
}

function passwordOf(secret: string, role: string): string {
  return createHmac('sha256', secret).update(`patchbay/database-role/${role}`).digest('base64url');
}

function roleUrl(options: RoleOptions, role: string): string {
  const url = new URL(options.adminUrl);
  url.username = role;
  url.password = passwordOf(options.secret, role);
  return url.href;
}

async function canLogIn(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    return true;
  } catch (error) {
    const state = sqlState(error);
    if (state === SQLSTATE.invalidPassword || state === SQLSTATE.invalidAuthorization) return false;
    throw error;
  } finally {
    await client.end().catch(() => {});
  }
}

const ATTEMPTS = 5;

async function setPassword(options: RoleOptions, role: string): Promise<void> {
  const client = new pg.Client({ connectionString: options.adminUrl, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  await client.connect();
  try {
    const password = pg.escapeLiteral(passwordOf(options.secret, role));
    for (let attempt = 1; ; attempt += 1) {
      try {
        await client.query(`ALTER ROLE ${pg.escapeIdentifier(role)} LOGIN PASSWORD ${password}`);
        break;
      } catch (error) {
        // Roles belong to the whole server, where two databases' processes may alter one at the same instant
        // ("tuple concurrently updated", an internal error).
        if (sqlState(error) !== 'XX000' || attempt === ATTEMPTS) throw error;
        await delay(20 * attempt);
      }
    }
  } catch (error) {
    if (sqlState(error) !== SQLSTATE.insufficientPrivilege) throw error;
    throw new PatchbayError(
      'DATABASE_UNAVAILABLE',
      `The role of DATABASE_URL may not set the password of ${role}.`,
      {
        fix: `As a superuser, run \`ALTER ROLE owner CREATEROLE; GRANT ${Object.values(LOGIN_ROLES).join(', ')} TO owner WITH ADMIN OPTION;\` with the user of DATABASE_URL for owner.`,
        cause: error,
      },
    );
  } finally {
    await client.end();
  }
  if (!(await canLogIn(roleUrl(options, role)))) {
    throw new PatchbayError('DATABASE_UNAVAILABLE', `${role} cannot log in with its new password.`, {
      fix: 'Check pg_hba.conf: the role needs password authentication from this host.',
    });
  }
}
