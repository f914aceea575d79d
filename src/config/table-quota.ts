import type { Read } from './read.ts';
import { integer } from './setting.ts';

const MAX = 999_999_999_999_999;
const NONE = 'for tenants to whom the operator gave no limit of their own. 0 is no limit.';

/** What a tenant may use unless the operator says otherwise. */
export function quotaTable(read: Read) {
  const limit = (env: string, what: string): number =>
    read('Quotas', integer({ env, doc: `${what}, ${NONE}` }, { default: 0, min: 0, max: MAX }));
  return {
    quotas: {
      REQUESTS_PER_MINUTE: limit('PATCHBAY_QUOTA_REQUESTS_PER_MINUTE', 'Requests of a tenant in a minute'),
      PROMPT_TOKENS_PER_MINUTE: limit(
        'PATCHBAY_QUOTA_PROMPT_TOKENS_PER_MINUTE',
        'Prompt tokens of a tenant in a minute',
      ),
      COMPLETION_TOKENS_PER_MINUTE: limit(
        'PATCHBAY_QUOTA_COMPLETION_TOKENS_PER_MINUTE',
        'Generated tokens of a tenant in a minute, reserved by `maxTokens` and corrected when a request ends',
      ),
      CONCURRENT_STREAMS: limit(
        'PATCHBAY_QUOTA_CONCURRENT_STREAMS',
        'Requests of a tenant that run or wait at the same time',
      ),
      ADAPTERS: limit('PATCHBAY_QUOTA_ADAPTERS', 'Adapters of a tenant'),
      STORAGE_BYTES: limit(
        'PATCHBAY_QUOTA_STORAGE_BYTES',
        'Bytes of a tenant’s adapter files, open uploads included',
      ),
      UPLOADS_PER_HOUR: limit('PATCHBAY_QUOTA_UPLOADS_PER_HOUR', 'Uploads that a tenant opens in an hour'),
    },
  };
}
