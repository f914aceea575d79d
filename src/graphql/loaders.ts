import DataLoader from 'dataloader';
import type { AdapterModel, AdapterVersionModel, BackboneModel } from '../adapter/types.ts';
import type { Principal } from '../auth/principal.ts';
import type { EpochAnchor } from '../chain/anchoring/reader.ts';
import { PatchbayError } from '../kernel/errors.ts';
import type { ApiKey } from '../tenant/api-keys.ts';
import type { Member } from '../tenant/members.ts';
import type { Tenant } from '../tenant/service.ts';
import type { GraphqlServices } from './services.ts';

/** Reads that many fields of one operation repeat. */
export interface Loaders {
  readonly adapter: DataLoader<string, AdapterModel | null>;
  readonly adapterVersion: DataLoader<string, AdapterVersionModel | null>;
  /** By the adapter's id: its newest version that is ready. */
  readonly latestVersion: DataLoader<string, AdapterVersionModel | null>;
  readonly tenant: DataLoader<string, Tenant | null>;
  readonly member: DataLoader<string, Member | null>;
  readonly apiKey: DataLoader<string, ApiKey | null>;
  readonly backbone: DataLoader<string, BackboneModel | null>;
  /** By the epoch's number. */
  readonly epochAnchor: DataLoader<string, EpochAnchor | null>;
}

/** Keys that one query may name. */
const BATCH_MAX = 1_000;

/** Loaders that read as one principal, each batch in one query. They live for one operation. */
export function createLoaders(principal: Principal | undefined, services: GraphqlServices): Loaders {
  const batched = <T>(
    read: (caller: Principal, keys: readonly string[]) => Promise<readonly T[]>,
    keyOf: (found: T) => string,
  ): DataLoader<string, T | null> =>
    new DataLoader<string, T | null>(
      async (keys) => {
        if (!principal)
          throw new PatchbayError('UNAUTHENTICATED', 'This field needs an API key, and none was sent.');
        const found = new Map((await read(principal, keys)).map((item) => [keyOf(item), item]));
        return keys.map((key) => found.get(key) ?? null);
      },
      { maxBatchSize: BATCH_MAX },
    );
  const { adapters, apiKeys, backbones, chain, members, tenants } = services;
  return {
    adapter: batched(
      (caller, ids) => adapters.getMany(caller, ids),
      ({ id }) => id,
    ),
    adapterVersion: batched(
      (caller, ids) => adapters.getVersions(caller, ids),
      ({ id }) => id,
    ),
    latestVersion: batched(
      (caller, ids) => adapters.latestVersions(caller, ids),
      ({ adapterId }) => adapterId,
    ),
    tenant: batched(
      (caller, ids) => tenants.getMany(caller, ids),
      ({ id }) => id,
    ),
    member: batched(
      (caller, ids) => members.getMany(caller, ids),
      ({ id }) => id,
    ),
    apiKey: batched(
      (caller, ids) => apiKeys.getMany(caller, ids),
      ({ id }) => id,
    ),
    backbone: batched(
      (caller, digests) => backbones.getMany(caller, digests),
      ({ digest }) => digest,
    ),
    epochAnchor: batched(
      async (_caller, numbers) => (await chain?.anchors?.of(numbers.map(BigInt))) ?? [],
      ({ epoch }) => String(epoch),
    ),
  };
}
