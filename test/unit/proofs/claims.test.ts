import { createHash } from 'node:crypto';
import { verifyTypedData } from 'ethers';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { claimMembers } from '../../../src/payouts/chain/claim-members.ts';
import { ClaimDocuments } from '../../../src/proofs/claims.ts';
import { ManualClock } from '../../kit/fake-runner.ts';
import { testSigner } from '../../kit/log.ts';

const LOG = Buffer.alloc(32, 7);
const ADDRESS = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed';
const HASH = `0x${'ab'.repeat(32)}`;

const parsed = z.object({
  format: z.string(),
  log: z.string(),
  claim: z.record(z.string(), z.unknown()),
  signedAt: z.string(),
  signature: z.string(),
});

test('the document of a claim has every member as text, and is signed as the specification says', async () => {
  const clock = new ManualClock();
  clock.advance(1_764_403_700_000);
  const signer = testSigner();
  const text = await new ClaimDocuments({ logId: LOG }, { signer, clock }).sign(
    claimMembers({
      ...{ id: 'unused', tenantId: '0192f000-0000-7000-8000-0000000000aa', chainId: 1n, decimals: 6 },
      ...{ distributor: ADDRESS, token: ADDRESS, currency: 'USD', sequence: 3n, root: HASH },
      ...{ account: ADDRESS, cumulative: 1_234_567n, proof: [HASH], restNano: 891n },
      payouts: [{ payoutId: 'p', amountNano: 1_234_567_891n, earnedBefore: new Date(1_764_403_600_000) }],
    }),
  );
  const document = parsed.parse(JSON.parse(text));
  expect(document).toMatchObject({
    format: 'patchbay-claim/1',
    log: '07'.repeat(32),
    signedAt: '1764403700000',
  });
  expect(document.claim).toEqual({
    ...{ tenant: '0192f000-0000-7000-8000-0000000000aa', chainId: '1', distributor: ADDRESS, token: ADDRESS },
    ...{ decimals: '6', currency: 'USD', sequence: '3', root: HASH, account: ADDRESS, cumulative: '1234567' },
    proof: [HASH],
    payouts: [{ payout: 'p', amount: '1234567891', earnedBefore: '1764403600000' }],
    rest: '891',
  });
  // Canonical JSON, written here by hand: sorted members without spaces.
  const sorted = JSON.stringify(
    document.claim,
    Object.keys(document.claim).sort().concat('payout', 'amount', 'earnedBefore'),
  );
  const inner = sorted.replace(
    /\{"payout":"p","amount":"1234567891","earnedBefore":"1764403600000"\}/,
    '{"amount":"1234567891","earnedBefore":"1764403600000","payout":"p"}',
  );
  const digest = createHash('sha256').update(inner).digest();
  const domain = { name: 'Patchbay proofs', version: '1', salt: `0x${'07'.repeat(32)}` };
  const types = {
    PayoutClaim: [
      { name: 'digest', type: 'bytes32' },
      { name: 'signedAt', type: 'uint64' },
    ],
  };
  const signed = { digest, signedAt: 1_764_403_700_000 };
  expect(verifyTypedData(domain, types, signed, document.signature)).toBe(signer.address);
});
