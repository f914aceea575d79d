import { resolveSecret } from '../../config/index.ts';
import { systemClock } from '../../kernel/clock.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { EXIT } from '../exit-codes.ts';
import type { CliIo } from '../io.ts';
import { withOfflineDatabase } from '../offline-database.ts';

/**
 * Puts another key in use, endorsed by the present one: a new one in the data folder, or the one that the configuration
 * names as the next.
 */
export async function rotateProofKey(io: CliIo, flags: { readonly json: boolean }): Promise<number> {
  const { config } = io.loadConfig();
  const { derivedPassword, replaceKeystore } = await import('../../proofs/keys/keystore.ts');
  const { KeyRegistry } = await import('../../proofs/keys/registry.ts');
  const { walletSigner } = await import('../../proofs/keys/wallet.ts');
  const { folders } = await import('../../app/engine.ts');
  const secret = await resolveSecret(config.data);
  const { key, nextKey, keyPassword } = config.proofs;
  const keys = await withOfflineDatabase(config.data, 'keys', async (database) => {
    const registry = new KeyRegistry({ database, clock: systemClock });
    const succeed = (present: string, next: string) =>
      registry.succeed(walletSigner(present), walletSigner(next));
    if (key === null)
      await replaceKeystore(folders(config).proofKey, keyPassword ?? derivedPassword(secret), succeed);
    else if (nextKey === null) {
      throw new PatchbayError(
        'CONFIG_INVALID',
        'The present key comes from PATCHBAY_PROOF_KEY, and there is no next one.',
        {
          fix: 'Set PATCHBAY_PROOF_KEY_NEXT to the next key, and PATCHBAY_PROOF_KEY to it when the command has succeeded.',
        },
      );
    } else await succeed(key, nextKey);
    return registry.list();
  });
  const inUse = keys.at(-1)?.address ?? '';
  io.out(
    flags.json
      ? `${JSON.stringify({ inUse, keys })}\n`
      : `${inUse} is in use, endorsed by the key before it. Start the servers again.\n`,
  );
  return EXIT.ok;
}
