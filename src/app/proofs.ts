import { randomBytes } from 'node:crypto';
import type { AppDeps } from '../cli/app-port.ts';
import type { Config } from '../config/index.ts';
import type { Database } from '../db/client.ts';
import { every, pause } from '../metering/periodic.ts';
import { derivedPassword, keystoreKey } from '../proofs/keys/keystore.ts';
import { walletSigner } from '../proofs/keys/wallet.ts';
import type { DigestSigner } from '../proofs/log/types.ts';
import { openProofs, type Proofs } from '../proofs/open.ts';
import { folders } from './engine.ts';
import type { Lifecycle } from './lifecycle.ts';

/** How often the log grows, and it is looked whether something was left unsigned: a head costs as much as a batch of receipts. */
const GROW_MS = 5_000;
/** How often it is looked whether an epoch is over. */
const CLOSE_MS = 5_000;

/** What proofs are made of. */
interface ProofParts {
  readonly config: Config;
  readonly secret: string;
  readonly database: Database;
}

/** The key of the configuration, or the one in the data folder. */
async function proofSigner(config: Config, secret: string): Promise<DigestSigner> {
  const { key, keyPassword } = config.proofs;
  if (key !== null) return walletSigner(key);
  return walletSigner(await keystoreKey(folders(config).proofKey, keyPassword ?? derivedPassword(secret)));
}

/** Starts the signing of receipts and the log, where they are switched on; the lifecycle learns how to stop them. */
export async function startProofs(
  { config, secret, database }: ProofParts,
  { clock, logger }: AppDeps,
  lifecycle: Lifecycle,
): Promise<Proofs | null> {
  if (!config.proofs.enabled) return null;
  const warn = (what: string) => (err: unknown) => logger.warn({ err }, what);
  const onError = warn('Receipts will be signed later');
  const signer = await proofSigner(config, secret);
  const { interval: intervalMs, leaves: leavesMax } = config.proofs.epoch;
  const proofs = await openProofs(
    { database, clock, signer, randomBytes, pause, onError },
    { epochs: { intervalMs, leavesMax } },
  );
  const append = (): Promise<void> => proofs.appender.run().then(() => {}, warn('The log will grow later'));
  const grow = every(GROW_MS, () => {
    proofs.desk.wake();
    return append();
  });
  const stopping = new AbortController();
  const later = warn('Epochs will be closed later');
  const close = every(CLOSE_MS, () =>
    proofs.closer.run(stopping.signal).then(
      () => {},
      (error) => (stopping.signal.aborted ? undefined : later(error)),
    ),
  );
  lifecycle.add('proofs', async () => {
    // An epoch that is being closed is left to the next process, and none is closed before its time.
    stopping.abort();
    await close.stop();
    await grow.stop();
    await proofs.desk.close();
    await append();
  });
  return proofs;
}
