import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Uuid } from '../kernel/ids.ts';

/**
 * Token of one file of one upload: an HMAC under the server's secret. It is derived instead of drawn, so a repeated
 * `openAdapterUpload` gives the same answer and the database holds nothing that opens an upload.
 */
export function uploadToken(
  secret: string,
  file: { readonly fileId: Uuid; readonly expiresAtMs: number },
): string {
  return createHmac('sha256', secret)
    .update(`patchbay/upload-token/1\n${file.fileId}\n${file.expiresAtMs}`)
    .digest('base64url');
}

/** Compares in constant time. */
export function tokenMatches(given: string, wanted: string): boolean {
  const a = Buffer.from(given, 'utf8');
  const b = Buffer.from(wanted, 'utf8');
  return a.byteLength === b.byteLength && timingSafeEqual(a, b);
}
