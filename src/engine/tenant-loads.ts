/** Bounds of {@link TenantLoads}. */
interface TenantLoadsOptions {
  /** The host cache that each tenant is taken to have for itself. */
  readonly hostCacheBytes: number;
  /** Adapters remembered for all tenants together; beyond that, whoever was idle longest is forgotten. */
  readonly maxRemembered?: number;
}

/** One tenant's imaginary cache: bytes by digest, least recently used first. */
interface Books {
  readonly adapters: Map<string, number>;
  bytes: number;
}

/**
 * Says which loads a tenant answers for: those that it would have caused if it had the whole cache to itself. The real
 * cache is shared, so whether an adapter really had to be read tells what others use. With private copies of somebody
 * else's files that would be an oracle for what they own; this depends on the tenant's own requests alone.
 */
export class TenantLoads {
  readonly #options: Required<TenantLoadsOptions>;
  /** Least recently active first. */
  readonly #tenants = new Map<string, Books>();
  #remembered = 0;

  constructor(options: TenantLoadsOptions) {
    this.#options = { maxRemembered: 200_000, ...options };
  }

  /** Notes that the tenant uses an adapter, and answers how many bytes had to be loaded for it. */
  use(tenantId: string, digest: string, bytes: number): number {
    const books = this.#tenants.get(tenantId) ?? { adapters: new Map<string, number>(), bytes: 0 };
    this.#tenants.delete(tenantId);
    this.#tenants.set(tenantId, books);
    const known = books.adapters.delete(digest);
    books.adapters.set(digest, bytes);
    if (known) return 0;
    books.bytes += bytes;
    this.#remembered += 1;
    for (const [oldest, size] of books.adapters) {
      if (books.bytes <= this.#options.hostCacheBytes || oldest === digest) break;
      books.adapters.delete(oldest);
      books.bytes -= size;
      this.#remembered -= 1;
    }
    for (const [idle, { adapters }] of this.#tenants) {
      if (this.#remembered <= this.#options.maxRemembered || idle === tenantId) break;
      this.#tenants.delete(idle);
      this.#remembered -= adapters.size;
    }
    return bytes;
  }

  clear(): void {
    this.#tenants.clear();
    this.#remembered = 0;
  }
}
