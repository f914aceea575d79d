import type { Database } from '../db/client.ts';
import type { Clock } from '../kernel/clock.ts';
import { ClaimDocuments } from './claims.ts';
import { CLOSER_DEFAULTS, EpochCloser } from './epochs/closer.ts';
import { ProofErasure } from './epochs/erasure.ts';
import type { Pace } from './epochs/range.ts';
import { EpochService } from './epochs/service.ts';
import { KeyRegistry } from './keys/registry.ts';
import type { LogAppender } from './log/appender.ts';
import { openLog } from './log/open.ts';
import type { LogService } from './log/service.ts';
import type { DigestSigner } from './log/types.ts';
import { ReceiptCounters } from './receipts/counters.ts';
import { DESK_DEFAULTS, type DeskDeps, type DeskOptions, ReceiptDesk } from './receipts/desk.ts';
import { DocumentStore } from './receipts/document-store.ts';
import { ReceiptIssuer } from './receipts/issuer.ts';
import { ReceiptService } from './receipts/service.ts';

/** Most receipts of one signature. */
const BATCH_MAX = 500;
/** Longer than anybody waits for a receipt. */
const LOST_AFTER_MS = 5_000;

/** How fast things go. */
export interface ProofPace {
  /** When epochs end. */
  readonly epochs: Pace;
  /** When receipts are signed. */
  readonly desk: DeskOptions;
}

const PACE_DEFAULTS: ProofPace = {
  epochs: { intervalMs: 3_600_000, leavesMax: 100_000 },
  desk: DESK_DEFAULTS,
};

/** Everything that proofs consist of. */
export interface Proofs {
  /** Numbers settlements in their transaction. */
  readonly counters: ReceiptCounters;
  readonly desk: ReceiptDesk;
  readonly receipts: ReceiptService;
  readonly log: LogService;
  readonly appender: LogAppender;
  readonly closer: EpochCloser;
  readonly epochs: EpochService;
  readonly erasure: ProofErasure;
  readonly keys: KeyRegistry;
  readonly claims: ClaimDocuments;
}

/** What they work with. */
export interface ProofDeps extends Pick<DeskDeps, 'pause' | 'onError'> {
  readonly database: Database;
  readonly clock: Clock;
  readonly signer: DigestSigner;
  readonly randomBytes: (size: number) => Buffer;
}

/**
 * Puts proofs together for a server that signs with this key.
 *
 * @throws PatchbayError `PROOF_KEY_UNKNOWN` when another key is in use
 */
export async function openProofs(deps: ProofDeps, pace: Partial<ProofPace> = {}): Promise<Proofs> {
  const { epochs, desk } = { ...PACE_DEFAULTS, ...pace };
  const { database } = deps;
  const keys = new KeyRegistry(deps);
  const logId = await keys.logId();
  await keys.use(deps.signer);
  const documents = new DocumentStore(deps);
  const issuer = new ReceiptIssuer(
    { logId, batchMax: BATCH_MAX, lostAfterMs: LOST_AFTER_MS },
    { ...deps, documents },
  );
  const { service: log, appender } = openLog({ logId }, deps);
  return {
    counters: new ReceiptCounters(),
    desk: new ReceiptDesk(desk, { ...deps, issuer, documents }),
    receipts: new ReceiptService({ database, documents, log, logId }),
    log,
    appender,
    closer: new EpochCloser({ ...CLOSER_DEFAULTS, ...epochs, logId }, { ...deps, documents }),
    epochs: new EpochService({ database, logId }),
    erasure: new ProofErasure(deps),
    keys,
    claims: new ClaimDocuments({ logId }, deps),
  };
}
