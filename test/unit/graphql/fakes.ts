import type { AdapterModel, AdapterVersionModel } from '../../../src/adapter/types.ts';
import type { Principal } from '../../../src/auth/principal.ts';
import type { GraphqlServices } from '../../../src/graphql/services.ts';
import type { EndEvent, InferenceEvent } from '../../../src/inference/events.ts';
import type { InferenceInput } from '../../../src/inference/input.ts';
import type { InferenceService } from '../../../src/inference/service.ts';
import { PatchbayError } from '../../../src/kernel/errors.ts';
import type { ApiKey } from '../../../src/tenant/api-keys.ts';
import type { Member } from '../../../src/tenant/members.ts';
import type { Tenant } from '../../../src/tenant/service.ts';

export const TENANT_ID = '018f3c5e-7b1a-7c4e-9d2f-000000000001';
export const KEY_ID = '018f3c5e-7b1a-7c4e-9d2f-000000000002';
export const REQUEST_ID = '018f3c5e-7b1a-7c4e-9d2f-000000000003';
export const TOKEN = 'Bearer pb_test_secret';
export const OPERATOR_TOKEN = 'Bearer pb_operator_secret';

export const PRINCIPAL: Principal = {
  keyId: KEY_ID,
  tenantId: TENANT_ID,
  kind: 'TENANT',
  scopes: ['infer'],
};

export const OPERATOR: Principal = {
  keyId: '018f3c5e-7b1a-7c4e-9d2f-000000000004',
  tenantId: '00000000-0000-0000-0000-000000000000',
  kind: 'OPERATOR',
  scopes: ['operator'],
};

/** Knows the two tokens above, until they are revoked. */
export class FakeKeys {
  readonly revoked = new Set<string>();
  calls = 0;

  readonly authenticate = async (authorization: string | undefined): Promise<Principal> => {
    this.calls += 1;
    if (authorization === TOKEN && !this.revoked.has(TOKEN)) return PRINCIPAL;
    if (authorization === OPERATOR_TOKEN && !this.revoked.has(OPERATOR_TOKEN)) return OPERATOR;
    throw new PatchbayError('UNAUTHENTICATED', 'The API key is not valid.');
  };
}

/** A stream that a test fills by hand. It keeps the contract of the real one: pull acknowledges, return cancels. */
export class FakeRun implements AsyncIterableIterator<InferenceEvent> {
  readonly returned: Promise<void>;
  /** Events whose successor was asked for. */
  acknowledged = 0;
  hasReturned = false;
  readonly input: InferenceInput;
  readonly #queue: InferenceEvent[] = [];
  readonly #watchers: { readonly count: number; readonly resolve: () => void }[] = [];
  #waiting: ((result: IteratorResult<InferenceEvent>) => void) | undefined;
  #fail: ((error: Error) => void) | undefined;
  #handed = false;
  #ended = false;
  #onReturned: () => void = () => {};

  constructor(input: InferenceInput) {
    this.input = input;
    this.returned = new Promise((resolve) => {
      this.#onReturned = resolve;
    });
  }

  push(...events: readonly InferenceEvent[]): void {
    this.#queue.push(...events);
    const resolve = this.#waiting;
    const event = resolve && this.#queue.shift();
    if (!resolve || !event) return;
    this.#waiting = undefined;
    this.#handed = true;
    resolve({ done: false, value: event });
  }

  end(): void {
    this.#ended = true;
    this.#waiting?.({ done: true, value: undefined });
  }

  fail(error: Error): void {
    this.#fail?.(error);
  }

  /** Resolves when so many events have been acknowledged. */
  acknowledgements(count: number): Promise<void> {
    if (this.acknowledged >= count) return Promise.resolve();
    return new Promise((resolve) => this.#watchers.push({ count, resolve }));
  }

  next(): Promise<IteratorResult<InferenceEvent>> {
    if (this.#handed) {
      this.acknowledged += 1;
      for (const { count, resolve } of this.#watchers) if (this.acknowledged >= count) resolve();
    }
    this.#handed = false;
    const event = this.#queue.shift();
    if (event) {
      this.#handed = true;
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#ended || this.hasReturned) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#waiting = resolve;
      this.#fail = reject;
    });
  }

  return(): Promise<IteratorResult<InferenceEvent>> {
    this.hasReturned = true;
    this.#onReturned();
    // Like a settlement that takes its time: who leaves must not depend on it.
    return new Promise(() => {});
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** Hands every request to the test as a {@link FakeRun}. */
export class FakeInference implements Pick<InferenceService, 'infer' | 'generate'> {
  readonly runs: FakeRun[] = [];
  /** Called with each new run, for instance to fill it. */
  onRun: (run: FakeRun) => void = () => {};
  refusal: Error | undefined;

  async infer(_caller: unknown, input: InferenceInput): Promise<FakeRun> {
    if (this.refusal) throw this.refusal;
    const run = new FakeRun(input);
    this.runs.push(run);
    this.onRun(run);
    return run;
  }

  async generate(_caller: unknown, input: InferenceInput) {
    if (this.refusal) throw this.refusal;
    this.runs.push(new FakeRun(input));
    const { kind: _kind, ...outcome } = endEvent();
    return { ...outcome, text: 'hello', tokens: [{ id: 7, logprob: -0.5 }] };
  }

  get last(): FakeRun {
    const run = this.runs.at(-1);
    if (!run) throw new Error('No request has arrived');
    return run;
  }
}

export function startedEvent(): InferenceEvent {
  return { kind: 'started', requestId: REQUEST_ID, replayed: false };
}

export function tokensEvent(seq: number, text = `t${seq}`): InferenceEvent {
  return { kind: 'tokens', seq, text, tokens: [{ id: seq, logprob: -1 }] };
}

export function endEvent(): EndEvent {
  return {
    kind: 'end',
    requestId: REQUEST_ID,
    finishReason: 'stop',
    usage: { promptTokens: 3, cachedPromptTokens: 0, completionTokens: 2 },
    timing: { queueMs: 1, prefillMs: 2, decodeMs: 3, computeMs: 4, bytesLoaded: 5 },
    replayed: false,
    outputComplete: true,
    receipt: null,
    opening: { salt: 'ab'.repeat(32), promptIds: [1, 2, 3] },
  };
}

const CREATED = new Date('2026-01-02T03:04:05.678Z');

export const TENANT: Tenant = {
  id: TENANT_ID,
  name: 'Demo',
  slug: 'demo',
  state: 'ACTIVE',
  createdAt: CREATED,
};

export const API_KEY: ApiKey = {
  id: KEY_ID,
  tenantId: TENANT_ID,
  kind: 'TENANT',
  name: 'laptop',
  prefix: 'pb_test',
  scopes: ['infer'],
  createdAt: CREATED,
  expiresAt: null,
  lastUsedAt: null,
  revokedAt: null,
  rotatedFrom: null,
  memberId: null,
  createdBy: null,
};

export const MEMBER: Member = {
  id: '018f3c5e-7b1a-7c4e-9d2f-00000000000c',
  tenantId: TENANT_ID,
  name: 'Ada',
  email: 'ada@example.com',
  role: 'OWNER',
  createdAt: CREATED,
  removedAt: null,
};

export const ADAPTER: AdapterModel = {
  id: '018f3c5e-7b1a-7c4e-9d2f-00000000000a',
  tenantId: TENANT_ID,
  name: 'sentiment',
  owner: 'demo',
  visibility: 'PRIVATE',
  createdAt: CREATED,
};

export const VERSION: AdapterVersionModel = {
  id: '018f3c5e-7b1a-7c4e-9d2f-00000000000b',
  tenantId: TENANT_ID,
  adapterId: ADAPTER.id,
  number: 1,
  state: 'READY',
  digest: 'ab'.repeat(32),
  backboneDigest: 'cd'.repeat(32),
  rank: 8,
  modules: 14,
  targets: ['q_proj'],
  parameters: 1_000n,
  bytes: 9_007_199_254_740_993n,
  rejection: null,
  createdAt: CREATED,
  readyAt: CREATED,
  retiredAt: null,
};

/** Services of one tenant with one key and one adapter. A test replaces the methods that it is about. */
export function fakeServices(inference: FakeInference = new FakeInference()) {
  const missing = (): never => {
    throw new PatchbayError('NOT_FOUND', 'Not in this test.');
  };
  const empty = async () => ({ items: [], hasNextPage: false });
  return {
    tenants: {
      getMany: async (_principal, ids) => (ids.includes(TENANT_ID) ? [TENANT] : []),
      list: async () => ({ items: [TENANT], hasNextPage: false }),
      create: async () => TENANT,
      setState: async () => TENANT,
    },
    apiKeys: {
      get: async (_principal, id) => (id === KEY_ID ? API_KEY : null),
      getMany: async () => [],
      list: async () => ({ items: [API_KEY], hasNextPage: false }),
      create: async () => ({ key: API_KEY, secret: 'pb_test_secret' }),
      rotate: async () => ({ key: API_KEY, secret: 'pb_test_secret' }),
      revoke: async () => API_KEY,
    },
    members: {
      getMany: async () => [],
      list: empty,
      add: async () => MEMBER,
      setRole: async () => MEMBER,
      remove: async () => ({ member: MEMBER, createdKeys: [] }),
    },
    quotas: { read: async () => [], set: async () => [] },
    audit: { list: empty, denied: async () => {}, seen: async () => {}, unseen: async () => {} },
    backbones: { list: empty, getMany: async () => [] },
    adapters: {
      getMany: async (_principal, ids) => (ids.includes(ADAPTER.id) ? [ADAPTER] : []),
      getByName: async () => ADAPTER,
      list: empty,
      getVersions: async (_principal, ids) => (ids.includes(VERSION.id) ? [VERSION] : []),
      latestVersions: async (_principal, ids) => (ids.includes(ADAPTER.id) ? [VERSION] : []),
      listVersions: async () => ({ items: [VERSION], hasNextPage: false }),
      getUpload: async () => null,
      openUpload: missing,
      finalizeUpload: missing,
      setVisibility: missing,
      retireVersion: missing,
      watchVersion: missing,
    },
    inference,
    usage: {
      summary: missing,
      records: empty,
      owned: missing,
      request: async () => null,
      commitmentSalt: async () => null,
    },
    pricing: {
      setPrice: missing,
      setRoyalty: missing,
      prices: empty,
      royalties: empty,
      splits: empty,
      proposals: empty,
      proposeSplit: missing,
      decideSplit: missing,
      quote: missing,
    },
    accounts: { balances: async () => [], entries: empty, earnings: empty },
    funds: { move: missing, setCreditLimit: missing },
    budgets: { list: async () => [], uses: empty, set: missing, remove: missing },
    events: { list: empty, follow: missing },
    invoicing: {
      periods: { close: missing, closeAll: missing, open: empty },
      invoices: {
        finalise: missing,
        markPaid: missing,
        void: missing,
        credit: missing,
        collectOpenCharges: async () => ({ posted: 0, failed: [] }),
      },
      terms: { set: missing, list: empty },
      reader: { list: empty, get: async () => null },
    },
    payouts: {
      earnings: { balances: async () => [], statement: missing },
      corrections: { adjust: missing },
      destinations: { set: missing, list: empty },
      batches: {
        create: missing,
        approve: missing,
        cancel: missing,
        submit: missing,
        resume: async () => ({ resumed: [], failed: [] }),
        expire: async () => ({ expired: [], failed: [] }),
        list: empty,
        get: async () => null,
      },
      outcomes: { importResults: missing, resolveUnknown: missing, list: empty },
      chain: null,
    },
    reconciliation: { report: missing },
    economics: { report: missing },
    proofs: null,
    chain: null,
    exports: { create: missing, get: async () => null, list: empty, delete: missing, link: () => null },
    engine: { backboneDigest: 'cd'.repeat(32), status: missing },
    health: { ready: () => true, version: '0.0.0-test', now: () => CREATED },
  } satisfies GraphqlServices;
}
