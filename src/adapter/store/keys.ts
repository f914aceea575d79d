import { isUuid } from '../../kernel/ids.ts';
import type { AdapterFileName } from '../limits.ts';

const SEGMENT = /^[a-z0-9][a-z0-9._-]{0,127}$/;
const MAX_SEGMENTS = 8;
const DIGEST = /^[0-9a-f]{64}$/;

/** Throws unless the key is a sequence of plain segments: no `..`, no leading dot, no empty segment, no backslash. */
export function requireKey(key: string): void {
  const segments = key.split('/');
  if (segments.length <= MAX_SEGMENTS && segments.every((segment) => SEGMENT.test(segment))) return;
  throw new RangeError('not a key of a blob');
}

/** Throws unless the prefix is empty or a key followed by a slash. */
export function requirePrefix(prefix: string): void {
  if (prefix === '') return;
  if (!prefix.endsWith('/')) throw new RangeError('a prefix ends with a slash');
  requireKey(prefix.slice(0, -1));
}

/** Whether the text is a lower-case hex SHA-256. */
export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/**
 * Key of one file of one tenant's version. The digest comes first, because the engine knows nothing but digests; every
 * tenant has a copy of its own below it, so storing bytes that another tenant has stored is the same work, and one
 * tenant's deletion takes nothing from another.
 */
export function versionKey(digest: string, tenantId: string, file: AdapterFileName): string {
  if (!isUuid(tenantId)) throw new RangeError('not a tenant id');
  return `${versionPrefix(digest)}${tenantId}/${file}`;
}

/** Prefix of all copies of a version. */
export function versionPrefix(digest: string): string {
  if (!isDigest(digest)) throw new RangeError('not a digest');
  return `adapters/${digest}/`;
}
