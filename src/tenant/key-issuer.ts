import { z } from 'zod';
import { generateKey, hashKey, type RandomBytes, shownPrefix } from '../auth/key-format.ts';
import type { Actor } from '../auth/principal.ts';
import type { Tx } from '../db/client.ts';
import { hashRequest, type Json, runIdempotent } from '../db/idempotency.ts';
import { PLATFORM_TENANT_ID } from '../db/platform.ts';
import type { Clock } from '../kernel/clock.ts';
import { newId, type Uuid } from '../kernel/ids.ts';

/** A key as callers see it. */
export interface ApiKey {
  readonly id: Uuid;
  readonly tenantId: Uuid;
  readonly kind: 'OPERATOR' | 'TENANT';
  readonly name: string;
  readonly prefix: string;
  readonly scopes: readonly string[];
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
  readonly lastUsedAt: Date | null;
  readonly revokedAt: Date | null;
  readonly rotatedFrom: Uuid | null;
  /** The member whose key it is; null for the tenant's own. */
  readonly memberId: Uuid | null;
  /** The key that made it; null for what the program made, and for keys of a time that is not in the audit log. */
  readonly createdBy: Uuid | null;
}

/** A key just issued, with the secret that is shown this once (and to retries with the same idempotency key). */
export interface IssuedKey {
  readonly key: ApiKey;
  readonly secret: string;
}

/** The fields that a new key is made from. */
export interface KeyDraft {
  readonly tenantId: Uuid;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly expiresAt: Date | null;
  readonly rotatedFrom: Uuid | null;
  readonly memberId: Uuid | null;
  readonly createdBy: Uuid | null;
}

const answerOfIssue = z.object({ keyId: z.string(), secret: z.string() });

/** Draws secrets and stores their keyed hashes. It checks nothing: its callers do. */
export class KeyIssuer {
  private readonly pepper: string;
  private readonly dependencies: { readonly clock: Clock; readonly randomBytes: RandomBytes };

  constructor(pepper: string, dependencies: { readonly clock: Clock; readonly randomBytes: RandomBytes }) {
    this.pepper = pepper;
    this.dependencies = dependencies;
  }

  /**
   * Issues a key once for an idempotency key. A retry gets the same secret, which is kept sealed so that only that
   * retry can open it (src/db/seal.ts).
   */
  async issueOnce(
    tx: Tx,
    actor: Actor,
    tenantId: Uuid,
    request: { readonly operation: string; readonly key: string; readonly args: Json },
    issue: () => Promise<{ keyId: Uuid; secret: string }>,
  ): Promise<IssuedKey> {
    const { value } = await runIdempotent(
      {
        scope: { tenantId, actor: actor.kind },
        operation: request.operation,
        key: request.key,
        requestHash: hashRequest(request.args),
      },
      tx,
      { codec: answerOfIssue, clock: this.dependencies.clock, sealWith: this.pepper },
      issue,
    );
    const row = await tx.apiKey.findUniqueOrThrow({ where: { id: value.keyId } });
    return { key: toApiKey(row), secret: value.secret };
  }

  /** Draws a secret and stores its key. */
  async insert(tx: Tx, draft: KeyDraft): Promise<{ keyId: Uuid; secret: string }> {
    const kind = draft.tenantId === PLATFORM_TENANT_ID ? 'OPERATOR' : 'TENANT';
    const secret = generateKey(kind, this.dependencies.randomBytes);
    const keyId = newId(this.dependencies.clock);
    await tx.apiKey.createMany({
      data: {
        ...draft,
        scopes: [...draft.scopes],
        id: keyId,
        kind,
        prefix: shownPrefix(secret),
        keyHash: hashKey(this.pepper, secret),
        createdAt: new Date(this.dependencies.clock.nowMs()),
      },
    });
    return { keyId, secret };
  }
}

/** The row without what nobody may see: the hash. */
export function toApiKey(row: ApiKey): ApiKey {
  const { id, tenantId, kind, name, prefix, scopes } = row;
  const { createdAt, expiresAt, lastUsedAt, revokedAt, rotatedFrom, memberId, createdBy } = row;
  return {
    id,
    tenantId,
    kind,
    name,
    prefix,
    scopes,
    createdAt,
    expiresAt,
    lastUsedAt,
    revokedAt,
    rotatedFrom,
    memberId,
    createdBy,
  };
}
