import { randomBytes } from 'node:crypto';
import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import { every, pause } from '../metering/periodic.ts';
import { derivedPassword, keystoreKey } from '../proofs/keys/keystore.ts';
import { KeyRegistry } from '../proofs/keys/registry.ts';
import { walletSigner } from '../proofs/keys/wallet.ts';
import { openLog } from '../proofs/log/open.ts';
import type { LogService } from '../proofs/log/service.ts';
import type { DigestSigner } from '../proofs/log/types.ts';
import { ReceiptCounters } from '../proofs/receipts/counters.ts';
import { DESK_DEFAULTS, ReceiptDesk } from '../proofs/receipts/desk.ts';
import { DocumentStore } from '../proofs/receipts/document-store.ts';
import { ReceiptIssuer } from '../proofs/receipts/issuer.ts';
import { ReceiptService } from '../proofs/receipts/service.ts';
import { folders } from './engine.ts';
import type { Lifecycle } from './lifecycle.ts';

/** Most receipts of one signature. */
const BATCH_MAX = 500;
/** How often receipts that nobody waits for are signed, and the log grows. */
const GROW_MS = 1_000;

/** Everything that proofs add to a server. */
export interface Proofs {
  readonly counters: ReceiptCounters;
  readonly desk: ReceiptDesk;
  readonly receipts: ReceiptService;
  readonly log: LogService;
  readonly keys: KeyRegistry;
}

/** What proofs are made of. */
interface ProofParts {
  readonly config: Config;
  readonly secret: string;
  readonly database: Database;
}

/** The key of the configuration, or the one in the data folder. */
export async function proofSigner(config: Config, secret: string): Promise<DigestSigner> {
  const { key, keyPassword } = config.proofs;
  if (key !== null) return walletSigner(key.startsWith('0x') ? key : `0x${key}`);
  return walletSigner(await keystoreKey(folders(config).proofKey, keyPassword ?? derivedPassword(secret)));
}

/** Starts the signing of receipts and the log, where they are switched on; the lifecycle learns how to stop them. */
export async function startProofs(
  { config, secret, database }: ProofParts,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
): Promise<Proofs | null> {
  if (!config.proofs.enabled) return null;
  const keys = new KeyRegistry({ database, clock });
  const logId = await keys.logId();
  const signer = await proofSigner(config, secret);
  await keys.use(signer);
  const onError = (err: unknown): void => logger.warn({ err }, 'Receipts will be signed later');
  const documents = new DocumentStore({ database });
  const issuer = new ReceiptIssuer(
    { logId, batchMax: BATCH_MAX },
    { database, clock, signer, documents, randomBytes },
  );
  const desk = new ReceiptDesk(DESK_DEFAULTS, { issuer, documents, clock, pause, onError });
  const { service: log, appender } = openLog({ logId }, { database, clock, signer });
  const grow = every(GROW_MS, async () => {
    desk.wake();
    await appender.run().then(
      () => {},
      (err: unknown) => logger.warn({ err }, 'The log will grow later'),
    );
  });
  lifecycle.add('proofs', async () => {
    await grow.stop();
    await desk.close();
    await appender.run();
  });
  const receipts = new ReceiptService({ database, documents, log, logId });
  return { counters: new ReceiptCounters(), desk, receipts, log, keys };
}
