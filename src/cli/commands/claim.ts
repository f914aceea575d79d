import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import type { KeySource } from '../../chain/account.ts';
import type { ClaimOrder, ClaimReport } from '../../chain/claim.ts';
import type { Config } from '../../config/index.ts';
import { PatchbayError } from '../../kernel/errors.ts';
import { resolveConnection } from '../connection.ts';
import { EXIT } from '../exit-codes.ts';
import { request } from '../graphql-client.ts';
import { type CliIo, UsageError } from '../io.ts';

/** What the command line says. */
export interface ClaimFlags {
  readonly url?: string;
  readonly key?: string;
  readonly account?: string;
  readonly distributor?: string;
  readonly rpc?: string;
  readonly keystore?: string;
  readonly confirmations: number;
  readonly wait: number;
  readonly json: boolean;
}

/** What a claim is sent with, wherever it comes from. */
interface HeldClaim extends ClaimOrder {
  readonly chainId: bigint;
  readonly decimals: number;
}

const CALL_TIMEOUT_MS = 15_000;
const POLLING_MS = 1_000;

const whole = z.string().regex(/^(0|[1-9][0-9]{0,77})$/);
const hash = z.string().regex(/^0x[0-9a-f]{64}$/);
const address = z.string().regex(/^0x[0-9a-fA-F]{40}$/);
const members = {
  chainId: whole,
  distributor: address,
  token: address,
  root: hash,
  account: address,
  cumulative: whole,
  proof: z.array(hash).max(256),
};
const documentSchema = z.object({
  format: z.literal('patchbay-claim/1'),
  claim: z.object({ ...members, decimals: whole }),
});
const answerSchema = z.object({
  payoutClaim: z.object({ ...members, decimals: z.int() }).nullable(),
});

const QUERY = `query ($account: String, $distributor: String) {
  payoutClaim(account: $account, distributor: $distributor) { chainId distributor token decimals root account cumulative proof }
}`;

/** Sends a claim with a wallet of whoever runs the command. Only the account of the claim is paid, whoever sends it. */
export async function claimCommand(io: CliIo, file: string | undefined, flags: ClaimFlags): Promise<number> {
  const { config } = io.loadConfig(flags.rpc === undefined ? {} : { PATCHBAY_CHAIN_RPC_URL: flags.rpc });
  const { rpcUrl } = config.chain;
  if (rpcUrl === null) {
    throw new UsageError('Nothing says through which node.', 'Give --rpc, or set PATCHBAY_CHAIN_RPC_URL.');
  }
  const held = file === undefined ? await fetchClaim(config, flags) : await readClaim(file);
  const { chainId, decimals, ...claim } = held;
  const { sendClaim } = await import('../../chain/claim.ts');
  const report = await sendClaim({
    connection: { rpcUrl, chainId, timeoutMs: CALL_TIMEOUT_MS, pollingMs: POLLING_MS },
    claim,
    key: await keySource(config.chain, flags.keystore),
    confirmations: flags.confirmations,
    waitMs: flags.wait,
    onSigned: ({ hash: sent, from }) => {
      if (!flags.json) io.err(`Sending ${sent} from ${from}\n`);
    },
  });
  io.out(flags.json ? `${asJson(report)}\n` : await describe(report, decimals));
  return EXIT.ok;
}

async function readClaim(file: string): Promise<HeldClaim> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new PatchbayError('FILE_MISSING', `${file} cannot be read.`, { field: 'claim', cause });
  });
  const parsed = documentSchema.safeParse(parseJson(text));
  if (parsed.success) {
    const { claim } = parsed.data;
    return { ...toOrder(claim), decimals: Number(claim.decimals) };
  }
  throw new PatchbayError('BAD_INPUT', `${file} is no patchbay-claim/1.`, {
    field: 'claim',
    fix: 'Give the document of `payoutClaim` as it was handed out, or leave the file out and let the command fetch it.',
    cause: parsed.error,
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function fetchClaim(config: Config, flags: ClaimFlags): Promise<HeldClaim> {
  const connection = await resolveConnection(config, flags);
  const variables = { account: flags.account ?? null, distributor: flags.distributor ?? null };
  const { payoutClaim } = await request(connection, QUERY, variables, answerSchema);
  if (payoutClaim !== null) return { ...toOrder(payoutClaim), decimals: payoutClaim.decimals };
  throw new PatchbayError('CLAIM_NOTHING', 'No tree on the chain has anything for this beneficiary.', {
    fix: 'Wait until a payout to your address is published; `payouts` says how far they are.',
  });
}

function toOrder(claim: {
  readonly chainId: string;
  readonly distributor: string;
  readonly token: string;
  readonly root: string;
  readonly account: string;
  readonly cumulative: string;
  readonly proof: readonly string[];
}): Omit<HeldClaim, 'decimals'> {
  const { distributor, token, root, account, proof } = claim;
  const [chainId, cumulative] = [BigInt(claim.chainId), BigInt(claim.cumulative)];
  return { distributor, token, root, account, proof, chainId, cumulative };
}

async function keySource(
  { claimKey, keystorePassword }: Config['chain'],
  keystore: string | undefined,
): Promise<KeySource> {
  if (keystore !== undefined) {
    const { keystoreFile } = await import('../../chain/keystore-file.ts');
    return keystoreFile(keystore, keystorePassword);
  }
  if (claimKey !== null) return { kind: 'key', key: claimKey };
  throw new PatchbayError('CHAIN_KEY', 'There is no key of a wallet to send the claim with.', {
    fix: 'Give --keystore, or set PATCHBAY_CHAIN_CLAIM_KEY. Any wallet with some of the chain’s own coin will do.',
  });
}

function asJson({ paid, cumulative, ...rest }: ClaimReport): string {
  return JSON.stringify({ ...rest, paid: String(paid), cumulative: String(cumulative) });
}

async function describe(
  { account, paid, cumulative, transaction, block }: ClaimReport,
  decimals: number,
): Promise<string> {
  const { formatUnits } = await import('ethers');
  const [now, all] = [formatUnits(paid, decimals), formatUnits(cumulative, decimals)];
  return `${account} was paid ${now}, and ${all} in all.\nTransaction ${transaction} in block ${block}.\n`;
}
