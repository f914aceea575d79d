import type { Engine, SequenceRequest } from '../engine/port.ts';
import type { Clock } from '../kernel/clock.ts';
import { PatchbayError } from '../kernel/errors.ts';
import { newId, type Uuid } from '../kernel/ids.ts';
import { COMMITMENT_SALT_BYTES, OutputCommitment, promptCommitment } from '../metering/commitment.ts';
import { blendShares } from '../metering/shares.ts';
import type { Admission, AdmittedAdapter, IdempotencyClaim } from '../metering/types.ts';
import {
  checkSize,
  hashRequest,
  type InferenceInput,
  type NormalInput,
  normaliseInput,
  sequenceRequest,
} from './input.ts';
import type {
  AdapterResolver,
  Caller,
  PromptEncoder,
  RequestPrice,
  RequestPricer,
  ResolvedAdapter,
} from './ports.ts';

/** Bounds of the intake. */
export interface IntakeOptions {
  /** Largest absolute weight in a blend. */
  readonly maxBlendWeight: number;
}

/** What the intake works with. */
export interface IntakeDeps {
  readonly engine: Engine;
  readonly encoder: PromptEncoder;
  readonly adapters: AdapterResolver;
  readonly pricer: RequestPricer;
  readonly clock: Clock;
  /** Cryptographically random bytes. */
  readonly randomBytes: (size: number) => Buffer;
}

/** A request that passed every check: what the engine gets and what is written before. */
export interface PreparedRequest {
  readonly keyId: Uuid;
  readonly request: SequenceRequest;
  readonly admission: Admission;
  readonly price: RequestPrice;
  readonly commitment: OutputCommitment;
}

/** Turns what a caller says into a request that can be admitted, or refuses it; writes and queues nothing. */
export class Intake {
  private readonly options: IntakeOptions;
  private readonly deps: IntakeDeps;

  constructor(options: IntakeOptions, deps: IntakeDeps) {
    this.options = options;
    this.deps = deps;
  }

  /** Checks what needs nobody's help. */
  check(input: InferenceInput): NormalInput {
    const normal = normaliseInput(input);
    const { engine, encoder } = this.deps;
    checkSize(engine.info, encoder.tokenCharsMax, normal);
    const { backboneDigest } = engine.info;
    if (input.backboneDigest !== undefined && input.backboneDigest !== backboneDigest) {
      throw new PatchbayError('BACKBONE_NOT_LOADED', 'This server serves another backbone.');
    }
    return normal;
  }

  /** Resolves adapters, encodes the prompt, checks all of it against the engine, prices it, and commits to the prompt. */
  async prepare(caller: Caller, input: NormalInput, keyHash: Buffer | null): Promise<PreparedRequest> {
    const { engine, clock, pricer, randomBytes } = this.deps;
    const adapters = await this.resolve(caller, input);
    const promptIds = await this.encode(input);
    const { tenantId, keyId } = caller;
    const requestId = newId(clock);
    const facts = { requestId, tenantId, promptIds, adapters, seed: this.drawSeed() };
    const request = sequenceRequest(engine.info, this.options.maxBlendWeight, input, facts);
    const priced = {
      tenantId,
      backboneDigest: engine.info.backboneDigest,
      adapters: admittedAdapters(adapters),
      priority: input.priority,
      promptTokens: promptIds.length,
      maxTokens: input.maxTokens,
    };
    const price = await pricer.price(priced);
    const salt = randomBytes(COMMITMENT_SALT_BYTES);
    const commitment = new OutputCommitment(salt);
    const admission: Admission = {
      ...priced,
      requestId,
      keyId,
      idempotency: keyHash === null ? null : this.claim(keyHash, input),
      salt,
      promptCommitment: promptCommitment(salt, promptIds),
      emptyOutputCommitment: commitment.value(),
      charge: price.charge,
    };
    return { keyId, request, admission, price, commitment };
  }

  private resolve(caller: Caller, input: NormalInput): Promise<readonly ResolvedAdapter[]> {
    if (input.adapters.length === 0) return Promise.resolve([]);
    const { adapters, engine } = this.deps;
    return adapters.resolveForInference(caller.tenantId, input.adapters, engine.info.backboneDigest);
  }

  private async encode({ source }: NormalInput): Promise<readonly number[]> {
    switch (source.kind) {
      case 'ids':
        return source.ids;
      case 'text':
        return this.deps.encoder.encode(source.text);
      case 'messages':
        return this.deps.encoder.encodeChat(source.messages);
    }
  }

  private claim(keyHash: Buffer, input: NormalInput): IdempotencyClaim {
    const salt = this.deps.randomBytes(COMMITMENT_SALT_BYTES);
    return { keyHash, salt, requestHash: hashRequest(salt, input) };
  }

  /** An unsigned 53-bit integer. */
  private drawSeed(): number {
    return Number(this.deps.randomBytes(8).readBigUInt64LE() >> 11n);
  }
}

function admittedAdapters(adapters: readonly ResolvedAdapter[]): readonly AdmittedAdapter[] {
  const shares = blendShares(adapters.map((adapter) => adapter.weight));
  return adapters.map((adapter, index) => ({
    ...adapter,
    shareNumerator: shares[index]?.numerator ?? 0n,
    shareDenominator: shares[index]?.denominator ?? 1n,
  }));
}
