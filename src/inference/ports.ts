import type { Uuid } from '../kernel/ids.ts';
import type { PriorityClass } from '../kernel/priority.ts';
import type { AdmissionCharge, AdmittedAdapter, Charge } from '../metering/types.ts';

/** One message of a conversation. */
export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

/** Turns text into token ids of the served backbone. */
export interface PromptEncoder {
  /** Most UTF-16 characters of a text that one token can stand for; bounds what is encoded at all. */
  readonly tokenCharsMax?: number;
  encode(prompt: string): readonly number[] | Promise<readonly number[]>;
  /** Renders the messages with the backbone's chat template; rejects with `CHAT_TEMPLATE`. */
  encodeChat(messages: readonly ChatMessage[]): readonly number[] | Promise<readonly number[]>;
}

/** An adapter as the caller names it. */
export interface AdapterRef {
  /** Name or id of the adapter. */
  readonly adapter: string;
  /** Number or id of a version; the newest that is ready when absent. */
  readonly version?: string;
  /** Finite, not zero, bounded; 1 when absent. */
  readonly weight?: number;
}

/** An adapter version that the caller may run. */
export interface ResolvedAdapter {
  readonly versionId: Uuid;
  readonly adapterId: Uuid;
  readonly ownerTenantId: Uuid;
  /** Content digest, lower-case hex SHA-256. */
  readonly digest: string;
  readonly weight: number;
}

/** Finds adapter versions; the adapter domain implements it. */
export interface AdapterResolver {
  /**
   * Resolves references in order, each with its weight. Rejects with `ADAPTER_NOT_FOUND` for what the tenant cannot
   * see, whether it exists or not, and with `ADAPTER_NOT_READY` for what it can see and not run.
   */
  resolveForInference(
    tenantId: Uuid,
    refs: readonly (AdapterRef & { readonly weight: number })[],
    backboneDigest: string,
  ): Promise<readonly ResolvedAdapter[]>;
}

/** A request before its admission, as far as its price goes. */
export interface PriceableRequest {
  readonly tenantId: Uuid;
  readonly backboneDigest: string;
  readonly adapters: readonly AdmittedAdapter[];
  readonly priority: PriorityClass;
  readonly promptTokens: number;
  readonly maxTokens: number;
}

/** The price of one request, pinned: nothing that is set later touches it. */
export interface RequestPrice {
  /** What it may cost at most. */
  readonly charge: AdmissionCharge;
  /** What it did cost. */
  settle(counts: {
    readonly promptTokens: number;
    readonly cachedPromptTokens: number;
    readonly completionTokens: number;
  }): Charge;
}

/** Prices requests; the billing domain implements it. */
export interface RequestPricer {
  /** Rejects with `PRICE_MISSING` for what has no price: nothing runs for free because of it. */
  price(request: PriceableRequest): Promise<RequestPrice>;
}

/** Who asks. */
export interface Caller {
  readonly tenantId: Uuid;
  readonly keyId: Uuid;
  readonly scopes: readonly string[];
}
