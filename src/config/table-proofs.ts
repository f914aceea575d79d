import { z } from 'zod';
import type { Read } from './read.ts';
import { durationMs, flag, integer, optionalText } from './setting.ts';

/** Receipts, the log, and the key that signs them. */
export function proofsTable(read: Read) {
  return {
    proofs: {
      enabled: read(
        'Proofs',
        flag(
          {
            env: 'PATCHBAY_PROOFS',
            doc: 'Whether every usage record gets a signed receipt, and receipts go into the log. What was settled before it is switched on has none.',
          },
          false,
        ),
      ),
      key: read(
        'Proofs',
        optionalText(
          {
            env: 'PATCHBAY_PROOF_KEY',
            secrecy: 'hidden',
            doc: 'Private key (secp256k1) that signs receipts and heads of the log, 64 hexadecimal digits. Without it one is made once and kept, encrypted, in the data folder; servers that share a database must have the same.',
          },
          { schema: z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/), expected: '64 hexadecimal digits' },
        ),
      ),
      nextKey: read(
        'Proofs',
        optionalText(
          {
            env: 'PATCHBAY_PROOF_KEY_NEXT',
            secrecy: 'hidden',
            doc: 'The key that `patchbay proof-key rotate` puts in the place of `PATCHBAY_PROOF_KEY`. A key in the data folder is replaced by one that the command makes.',
          },
          { schema: z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/), expected: '64 hexadecimal digits' },
        ),
      ),
      keyPassword: read(
        'Proofs',
        optionalText(
          {
            env: 'PATCHBAY_PROOF_KEY_PASSWORD',
            secrecy: 'hidden',
            doc: 'Password of the key in the data folder. Without it one is derived from `PATCHBAY_SECRET`.',
          },
          { schema: z.string().min(8).max(1024), expected: 'at least 8 characters' },
        ),
      ),
      epoch: {
        interval: read(
          'Proofs',
          durationMs(
            {
              env: 'PATCHBAY_EPOCH_INTERVAL',
              doc: 'An epoch is closed so long after its first leaf. One without leaves is not closed.',
            },
            { default: '1h', min: '1s', max: '24h' },
          ),
        ),
        leaves: read(
          'Proofs',
          integer(
            {
              env: 'PATCHBAY_EPOCH_LEAVES',
              doc: 'An epoch is closed early when it has so many leaves.',
            },
            { default: 100_000, min: 1, max: 1_000_000 },
          ),
        ),
      },
    },
  };
}
