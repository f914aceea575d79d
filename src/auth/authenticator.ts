import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Uuid } from '../kernel/ids.ts';
import { hashKey, parseKey } from './key-format.ts';
import type { Principal } from './principal.ts';
import { type MemberRole, scopesWithin } from './roles.ts';

/** How to authenticate. */
export interface AuthenticatorOptions {
  /** Server-side secret of the key hashes; the same for all processes on a database. */
  readonly pepper: string;
  /** How long an answer of the database is believed: the longest that a revoked key still opens requests. */
  readonly cacheTtlMs?: number;
  readonly cacheEntriesMax?: number;
  /** How often last-used times are written. */
  readonly lastUsedIntervalMs?: number;
}

/** What authentication needs from its surroundings. */
export interface AuthenticatorDependencies {
  readonly database: Pick<Database, 'queryApp' | 'querySystem'>;
  readonly clock: Clock;
  /** Told when last-used times could not be written; they are tried again with the next batch. */
  readonly onError?: (error: unknown) => void;
  /** Told of a request with a key that is known and not usable, and whose key it is. It does not fail. */
  readonly onRefused?: (principal: Principal, reason: KeyRefusal, requestId: string) => Promise<void>;
}

/** Why a key that is known may not be used. */
export type KeyRefusal = 'REVOKED' | 'MEMBER_REMOVED' | 'EXPIRED' | 'TENANT_SUSPENDED' | 'TENANT_CLOSED';

/** A row of patchbay.find_api_key. */
interface FoundKey {
  readonly key_id: Uuid;
  readonly tenant_id: Uuid;
  readonly kind: 'OPERATOR' | 'TENANT';
  readonly scopes: readonly string[];
  readonly tenant_state: string;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  /** Null, like what follows, for a service key. */
  readonly member_id: Uuid | null;
  readonly member_role: MemberRole | null;
  readonly member_removed_at: Date | null;
}

interface CacheEntry {
  readonly found: Promise<FoundKey | null>;
  readonly askedAtMs: number;
}

const BEARER = /^Bearer +(\S+) *$/i;

/** Turns an Authorization header into a {@link Principal}. */
export class Authenticator {
  private readonly options: Required<AuthenticatorOptions>;
  private readonly dependencies: AuthenticatorDependencies;
  private readonly cache = new Map<string, CacheEntry>();
  /** Keys used since the last batch, with the time of their last use. */
  private used = new Map<Uuid, number>();
  private timer: NodeJS.Timeout | undefined;
  /** How often everything was forgotten. */
  private forgotten = 0;
  /** What {@link AuthenticatorDependencies.onRefused} has not finished. */
  private readonly telling = new Set<Promise<void>>();

  constructor(options: AuthenticatorOptions, dependencies: AuthenticatorDependencies) {
    this.options = { cacheTtlMs: 1_000, cacheEntriesMax: 10_000, lastUsedIntervalMs: 60_000, ...options };
    this.dependencies = dependencies;
  }

  /**
   * The caller that the header's key stands for. Throws UNAUTHENTICATED, always with the same words: whether a key
   * is malformed, unknown, expired, revoked or of a suspended tenant is not for strangers to learn. Somebody's request
   * has an id, and is told of when a known key is refused; where the program itself asks again there is none.
   */
  async authenticate(header: string | undefined, requestId?: string): Promise<Principal> {
    const parsed = parseKey(BEARER.exec(header ?? '')?.[1] ?? '');
    if (parsed === null) throw unauthenticated();
    const found = await this.findNow(hashKey(this.options.pepper, parsed.text));
    const nowMs = this.dependencies.clock.nowMs();
    if (found === null) throw unauthenticated();
    const refusal = refusalOf(found, nowMs);
    if (refusal !== null) {
      if (requestId !== undefined) this.tell(found, refusal, requestId);
      throw unauthenticated();
    }
    this.noteUse(found.key_id, nowMs);
    return toPrincipal(found);
  }

  /** Forgets what is believed of every key, so that the next use asks the database. */
  forget(): void {
    this.forgotten += 1;
    this.cache.clear();
  }

  /** Writes the last-used times gathered so far. */
  async flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    const batch = this.used;
    if (batch.size === 0) return;
    this.used = new Map();
    try {
      await this.dependencies.database.querySystem(
        `UPDATE api_key SET last_used_at = greatest(api_key.last_used_at, used.at)
         FROM unnest($1::uuid[], $2::timestamptz[]) AS used (id, at) WHERE api_key.id = used.id`,
        [[...batch.keys()], [...batch.values()].map((ms) => new Date(ms))],
      );
    } catch (error) {
      for (const [id, ms] of batch) this.used.set(id, Math.max(ms, this.used.get(id) ?? 0));
      this.dependencies.onError?.(error);
    }
  }

  /** Writes what is left. Call it before the database closes. */
  async close(): Promise<void> {
    await this.flush();
    await Promise.all(this.telling);
    clearTimeout(this.timer);
  }

  /** What the database says since everything was last forgotten: an answer that was on its way then may be the old one. */
  private async findNow(hash: Uint8Array): Promise<FoundKey | null> {
    for (;;) {
      const asked = this.forgotten;
      const found = await this.find(hash);
      if (asked === this.forgotten) return found;
    }
  }

  private find(hash: Uint8Array): Promise<FoundKey | null> {
    const id = Buffer.from(hash).toString('base64');
    const nowMs = this.dependencies.clock.monotonicMs();
    const known = this.cache.get(id);
    if (known !== undefined && nowMs - known.askedAtMs < this.options.cacheTtlMs) return known.found;
    // Deleting first keeps the map in the order of asking, so that the oldest answer is the first to go.
    this.cache.delete(id);
    const found = this.ask(hash);
    this.cache.set(id, { found, askedAtMs: nowMs });
    found.catch(() => {
      if (this.cache.get(id)?.found === found) this.cache.delete(id);
    });
    const oldest = this.cache.keys().next();
    if (this.cache.size > this.options.cacheEntriesMax && !oldest.done) this.cache.delete(oldest.value);
    return found;
  }

  private async ask(hash: Uint8Array): Promise<FoundKey | null> {
    const rows = await this.dependencies.database.queryApp<FoundKey>(
      'SELECT * FROM patchbay.find_api_key($1)',
      [Buffer.from(hash)],
    );
    return rows[0] ?? null;
  }

  /** Without being waited for, so that the answer comes as soon as that to an unknown key. */
  private tell(found: FoundKey, refusal: KeyRefusal, requestId: string): void {
    const told = this.dependencies.onRefused?.(toPrincipal(found), refusal, requestId);
    if (told === undefined) return;
    this.telling.add(told);
    void told.finally(() => this.telling.delete(told));
  }

  private noteUse(keyId: Uuid, nowMs: number): void {
    this.used.set(keyId, nowMs);
    this.timer ??= setTimeout(() => void this.flush(), this.options.lastUsedIntervalMs).unref();
  }
}

/** Why the key may not be used; null when it may. */
function refusalOf(key: FoundKey, nowMs: number): KeyRefusal | null {
  if (key.revoked_at !== null) return 'REVOKED';
  if (key.member_removed_at !== null) return 'MEMBER_REMOVED';
  if (key.expires_at !== null && key.expires_at.getTime() <= nowMs) return 'EXPIRED';
  if (key.tenant_state === 'ACTIVE') return null;
  return key.tenant_state === 'CLOSED' ? 'TENANT_CLOSED' : 'TENANT_SUSPENDED';
}

function toPrincipal(key: FoundKey): Principal {
  const { kind, tenant_id: tenantId, key_id: keyId, scopes, member_id: memberId, member_role: role } = key;
  if (memberId === null || role === null) return { kind, tenantId, keyId, scopes };
  return { kind, tenantId, keyId, scopes: scopesWithin(role, scopes), member: { id: memberId, role } };
}

function unauthenticated(): PatchbayError {
  return new PatchbayError('UNAUTHENTICATED', 'The API key is missing or not valid.');
}
