import { type Command, Option } from 'commander';
import type { CliIo } from './io.ts';
import { connected, duration, json, wholeNumber } from './options.ts';
import type { Run } from './program.ts';

const YEAR_MS = 31_536_000_000;

/** `patchbay claim`. */
export function addClaim(program: Command, io: CliIo, run: Run): void {
  connected(program.command('claim'))
    .description('claim on the chain what was paid out to an account, with a wallet of your own')
    .argument('[claim]', 'the claim as it was handed out, JSON; without it, it is fetched from the server')
    .option(
      '--account <address>',
      'for which of your accounts it is fetched; without it, the one paid to last',
    )
    .option(
      '--distributor <address>',
      'by which distributor it is fetched; without it, the one that pays now, or else the newest that owes you something',
    )
    .option('--rpc <url>', 'JSON-RPC of a node (PATCHBAY_CHAIN_RPC_URL)')
    .option(
      '--keystore <file>',
      'encrypted key of the wallet that sends; without it, PATCHBAY_CHAIN_CLAIM_KEY',
    )
    .option('--confirmations <number>', 'blocks to wait for', wholeNumber(1, 1_000), 1)
    .addOption(
      new Option('--wait <duration>', 'how long to wait for them')
        .argParser(duration(1_000, YEAR_MS))
        .default(300_000, '5m'),
    )
    .addHelpText(
      'after',
      `
Any wallet may send it and pays for the transaction; only the account of the claim is paid. Sent twice, it pays once.
The password of a keystore is PATCHBAY_CHAIN_KEYSTORE_PASSWORD.

Example:
  npx patchbay claim claim.json --rpc https://… --keystore wallet.json`,
    )
    .action((claim: string | undefined, flags) =>
      run(flags.json, async () => (await import('./commands/claim.ts')).claimCommand(io, claim, flags)),
    );
}

/** `patchbay chain`. */
export function addChain(program: Command, io: CliIo, run: Run): void {
  const chain = program.command('chain').description('the optional ledger on an EVM chain');
  chain
    .command('deploy')
    .description(
      'deploy the contracts, read them back and print their addresses; verify those that are there',
    )
    .option('--rpc <url>', 'JSON-RPC of a node (PATCHBAY_CHAIN_RPC_URL)')
    .option('--chain-id <number>', 'id of the chain that the node must serve (PATCHBAY_CHAIN_ID)')
    .option('--token <address>', 'ERC-20 token that royalties are paid in (PATCHBAY_CHAIN_TOKEN)')
    .option('--keystore <file>', 'encrypted key to deploy with; without it, PATCHBAY_CHAIN_DEPLOYER_KEY')
    .option('--owner <address>', 'who grants roles; without it, the deployer')
    .option('--publisher <address>', 'who anchors and publishes payouts; without it, the deployer')
    .option('--pauser <address>', 'who can stop payouts; without it, the owner')
    .addOption(
      new Option('--owner-delay <duration>', 'wait between the two steps that change the owner')
        .argParser(duration(0, YEAR_MS))
        .default(172_800_000, '48h'),
    )
    .option(
      '--first-epoch <number>',
      'number that anchoring begins with',
      wholeNumber(0, Number.MAX_SAFE_INTEGER),
      1,
    )
    .option('--confirmations <number>', 'blocks to wait for', wholeNumber(1, 1_000), 1)
    .addOption(
      new Option('--wait <duration>', 'how long to wait for them')
        .argParser(duration(1_000, YEAR_MS))
        .default(300_000, '5m'),
    )
    .addOption(json())
    .addHelpText(
      'after',
      `
A contract whose address is set (PATCHBAY_CHAIN_ANCHOR, PATCHBAY_CHAIN_DISTRIBUTOR) is verified and not deployed
again. Without a token there is no distributor. The password of a keystore is PATCHBAY_CHAIN_KEYSTORE_PASSWORD.

Example:
  npx patchbay chain deploy --rpc http://127.0.0.1:8545 --chain-id 31337 --keystore deployer.json --owner 0x…`,
    )
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/chain.ts')).chainDeploy(io, flags)),
    );
}
