import { z } from 'zod';
import type { Read } from './read.ts';
import { durationMs, integer, integerOr, optionalInteger, optionalText } from './setting.ts';

/** The chain that the installation may use, and what of ours is there. Nothing of it is needed to serve. */
export function chainTable(read: Read) {
  const address = (env: string, doc: string) =>
    read(
      'Chain',
      optionalText(
        { env, doc },
        {
          schema: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
          expected: 'an address, 0x and 40 hexadecimal digits',
        },
      ),
    );
  return {
    chain: {
      rpcUrl: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_RPC_URL',
            doc: 'JSON-RPC of a node of an EVM chain.',
            // Providers put their keys into the path.
            secrecy: 'hidden',
          },
          { schema: z.url({ protocol: /^https?$/ }), expected: 'a URL of http or https' },
        ),
      ),
      chainId: read(
        'Chain',
        optionalInteger(
          { env: 'PATCHBAY_CHAIN_ID', doc: 'Id of the chain that the node must serve.' },
          { min: 1, max: 999_999_999_999_999 },
        ),
      ),
      anchor: address(
        'PATCHBAY_CHAIN_ANCHOR',
        'Address of the `AttributionAnchor`; `chain deploy` prints it.',
      ),
      distributor: address(
        'PATCHBAY_CHAIN_DISTRIBUTOR',
        'Address of the `RoyaltyDistributor`; `chain deploy` prints it.',
      ),
      token: address('PATCHBAY_CHAIN_TOKEN', 'Address of the ERC-20 token that royalties are paid in.'),
      deployerKey: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_DEPLOYER_KEY',
            doc: 'Private key of the account that `chain deploy` deploys with, where no keystore file is given. Nothing else uses it.',
            secrecy: 'hidden',
          },
          {
            schema: z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/),
            expected: '64 hexadecimal digits',
          },
        ),
      ),
      claimKey: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_CLAIM_KEY',
            doc: 'Private key of the wallet that `claim` sends with, where no keystore file is given. Nothing else uses it.',
            secrecy: 'hidden',
          },
          {
            schema: z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/),
            expected: '64 hexadecimal digits',
          },
        ),
      ),
      key: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_KEY',
            doc: 'Private key of the account that anchors epochs and publishes payouts. Servers without it, and without `PATCHBAY_CHAIN_KEYSTORE`, send nothing. Use it for nothing else.',
            secrecy: 'hidden',
          },
          {
            schema: z.string().regex(/^(0x)?[0-9a-fA-F]{64}$/),
            expected: '64 hexadecimal digits',
          },
        ),
      ),
      keystore: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_KEYSTORE',
            doc: 'Encrypted file of that key, in place of `PATCHBAY_CHAIN_KEY`.',
          },
          { expected: 'the path of a file' },
        ),
      ),
      keystorePassword: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_KEYSTORE_PASSWORD',
            doc: 'Password of `PATCHBAY_CHAIN_KEYSTORE`, and of the keystore file that `chain deploy` or `claim` is given.',
            secrecy: 'hidden',
          },
          { expected: 'the password' },
        ),
      ),
      finality: read(
        'Chain',
        integerOr(
          {
            env: 'PATCHBAY_CHAIN_CONFIRMATIONS',
            doc: 'When a transaction counts as final: so many blocks deep, its own included, or when the chain calls its block final.',
          },
          'finalized',
          { default: 'finalized', min: 1, max: 100_000 },
        ),
      ),
      pollMs: read(
        'Chain',
        durationMs(
          {
            env: 'PATCHBAY_CHAIN_POLL_MS',
            doc: 'How often is looked at the chain while something is on its way.',
          },
          { default: '5s', min: '100ms', max: '10m' },
        ),
      ),
      bumpMs: read(
        'Chain',
        durationMs(
          {
            env: 'PATCHBAY_CHAIN_BUMP_MS',
            doc: 'After how long without a block a transaction is offered higher fees, by an eighth at least.',
          },
          { default: '3m', min: '1s', max: '24h' },
        ),
      ),
      maxFeeGwei: read(
        'Chain',
        integer(
          {
            env: 'PATCHBAY_CHAIN_MAX_FEE_GWEI',
            doc: "Most that is paid for a unit of gas, in billionths of the chain's own coin. While gas costs more, nothing is sent.",
          },
          { default: 200, min: 1, max: 1_000_000 },
        ),
      ),
    },
  };
}
