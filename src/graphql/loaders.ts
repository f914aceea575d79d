import DataLoader from 'dataloader';
import type { AdapterModel, AdapterVersionModel, BackboneModel } from '../adapter/types.ts';
import type { Principal } from '../auth/principal.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { Tenant } from '../tenant/service.ts';
import type { GraphqlServices } from './services.ts';

/** Reads that many fields of one operation repeat. */
export interface Loaders {
  readonly adapter: DataLoader<string, AdapterModel | null>;
  readonly adapterVersion: DataLoader<string, AdapterVersionModel | null>;
  readonly tenant: DataLoader<string, Tenant | null>;
  readonly backbone: DataLoader<string, BackboneModel | null>;
}

/** Loaders that read as one principal. They live for one operation. */
export function createLoaders(principal: Principal | undefined, services: GraphqlServices): Loaders {
  const each = <T>(read: (caller: Principal, key: string) => Promise<T>): DataLoader<string, T> =>
    new DataLoader<string, T>(async (keys) => {
      if (!principal)
        throw new PatchbayError('UNAUTHENTICATED', 'This field needs an API key, and none was sent.');
      const settled = await Promise.allSettled(keys.map((key) => read(principal, key)));
      return settled.map((result) => (result.status === 'fulfilled' ? result.value : asError(result.reason)));
    });
  return {
    adapter: each((caller, id) => services.adapters.get(caller, id)),
    adapterVersion: each((caller, id) => services.adapters.getVersion(caller, id)),
    tenant: each((caller, id) => services.tenants.get(caller, id)),
    backbone: new DataLoader<string, BackboneModel | null>(async (digests) => {
      if (!principal)
        throw new PatchbayError('UNAUTHENTICATED', 'This field needs an API key, and none was sent.');
      const known = await services.backbones.list(principal);
      return digests.map((digest) => known.find((backbone) => backbone.digest === digest) ?? null);
    }),
  };
}

function asError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error('A loader failed.', { cause: reason });
}
