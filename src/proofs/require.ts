import { PatchbayError } from '../kernel/errors.ts';

/** The service, or `PROOFS_DISABLED` where the deployment keeps no log. */
export function requireProofs<T>(service: T | null): T {
  if (service !== null) return service;
  throw new PatchbayError('PROOFS_DISABLED', 'This deployment issues no receipts and keeps no log.');
}
