import { z } from 'zod';
import type { Read } from './read.ts';
import { optionalInteger, optionalText } from './setting.ts';

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
      keystorePassword: read(
        'Chain',
        optionalText(
          {
            env: 'PATCHBAY_CHAIN_KEYSTORE_PASSWORD',
            doc: 'Password of the keystore file that `chain deploy` is given.',
            secrecy: 'hidden',
          },
          { expected: 'the password' },
        ),
      ),
    },
  };
}
