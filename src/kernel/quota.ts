import { PatchbayError } from './errors.ts';

/** Everything of a tenant that can be limited. */
export const QUOTA_KINDS = [
  'REQUESTS_PER_MINUTE',
  'PROMPT_TOKENS_PER_MINUTE',
  'COMPLETION_TOKENS_PER_MINUTE',
  'CONCURRENT_STREAMS',
  'ADAPTERS',
  'STORAGE_BYTES',
  'UPLOADS_PER_HOUR',
] as const;
export type QuotaKind = (typeof QUOTA_KINDS)[number];

/** A limit for each kind; 0 is no limit. */
export type QuotaLimits = Readonly<Record<QuotaKind, number>>;

/** No limit on anything. */
export const NO_QUOTAS: QuotaLimits = {
  REQUESTS_PER_MINUTE: 0,
  PROMPT_TOKENS_PER_MINUTE: 0,
  COMPLETION_TOKENS_PER_MINUTE: 0,
  CONCURRENT_STREAMS: 0,
  ADAPTERS: 0,
  STORAGE_BYTES: 0,
  UPLOADS_PER_HOUR: 0,
};

/** What did not fit under a limit. */
export interface QuotaRefusal {
  readonly kind: QuotaKind;
  readonly limit: number;
  readonly used: number;
  /** How much more was asked for. */
  readonly requested: number;
  /** When trying again makes sense; null when waiting alone does not help. */
  readonly retryAfterMs: number | null;
}

const WORDS: Readonly<Record<QuotaKind, string>> = {
  REQUESTS_PER_MINUTE: 'requests in a minute',
  PROMPT_TOKENS_PER_MINUTE: 'prompt tokens in a minute',
  COMPLETION_TOKENS_PER_MINUTE: 'completion tokens in a minute, reserved by `maxTokens`',
  CONCURRENT_STREAMS: 'requests at the same time',
  ADAPTERS: 'adapters',
  STORAGE_BYTES: 'bytes of adapters',
  UPLOADS_PER_HOUR: 'uploads in an hour',
};

/** The refusal as an error, with its numbers for programs. */
export function quotaExceeded(refusal: QuotaRefusal): PatchbayError {
  const { kind, limit, used, requested, retryAfterMs } = refusal;
  const words = WORDS[kind];
  return new PatchbayError(
    'QUOTA_EXCEEDED',
    `The tenant may have ${limit} ${words}; ${used} are taken and ${requested} more were asked for.`,
    {
      ...(retryAfterMs === null
        ? { fix: 'Ask for less, free what is not needed, or have the operator raise the quota.' }
        : {}),
      meta: { quota: kind, limit, used, requested, retryAfterMs },
    },
  );
}
