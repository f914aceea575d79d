import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Uuid } from '../kernel/ids.ts';

/** A download that is allowed until a time. */
export interface Grant {
  readonly exportId: Uuid;
  /** Seconds since 1970. */
  readonly expires: number;
}

/**
 * Signature of the address of an export: an HMAC under the installation's secret over the export and the end of its
 * validity. Whoever has the address may load this file until then, and nothing else.
 */
export function signature(secret: string, { exportId, expires }: Grant): string {
  return createHmac('sha256', secret)
    .update(`patchbay/export-url/1\n${exportId}\n${expires}`)
    .digest('base64url');
}

/** The address of an export. */
export function signedUrl(secret: string, baseUrl: string, grant: Grant): string {
  return `${baseUrl}/${grant.exportId}?expires=${grant.expires}&signature=${signature(secret, grant)}`;
}

/** Whether the signature is that of the grant, in constant time, and the grant has not run out. */
export function isValid(secret: string, grant: Grant, given: string, nowMs: number): boolean {
  const a = Buffer.from(given, 'utf8');
  const b = Buffer.from(signature(secret, grant), 'utf8');
  return a.byteLength === b.byteLength && timingSafeEqual(a, b) && grant.expires * 1_000 > nowMs;
}
