import { type Command, InvalidArgumentError } from 'commander';
import type { CliIo } from './io.ts';
import { collect, connected, json, wholeNumber } from './options.ts';
import type { Run } from './program.ts';
import { replayOptions, wantsReplay } from './replay-options.ts';

/** `patchbay proof-key`. */
export function addProofKey(program: Command, io: CliIo, run: Run): void {
  const proofKey = program.command('proof-key').description('the key that signs receipts and the log');
  proofKey
    .command('rotate')
    .description(
      'put another key in use, which the present one endorses; servers must be stopped and started',
    )
    .addOption(json())
    .addHelpText('after', '\nExample:\n  npx patchbay proof-key rotate')
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/proof-key.ts')).rotateProofKey(io, flags)),
    );
}

/** Whose signatures count, and which chain is asked. */
function evidence(command: Command): Command {
  return command
    .option(
      '--keys <file>',
      'key list of the deployment; its first key is trusted unless --trust says another',
    )
    .option('--trust <address>', 'address of a key that you trust; repeat it for several', collect, [])
    .option(
      '--head <file>',
      'a head that you kept, or a consistency proof; repeat it for several',
      collect,
      [],
    )
    .option('--rpc <url>', 'node of the chain; epochs and claims are compared with its contracts')
    .option(
      '--confirmations <number>',
      'blocks after which one is final; without it, what the chain calls finalized',
      wholeNumber(0, 1_000_000),
    )
    .option(
      '--anchor <address>',
      'the AttributionAnchor; without it, what the bundle says, which nobody signed',
    )
    .option(
      '--distributor <address>',
      'the RoyaltyDistributor; without it, what the bundle says, which nobody signed',
    )
    .addOption(json());
}

/** `patchbay verify`. */
export function addVerify(program: Command, io: CliIo, run: Run): void {
  replayOptions(evidence(program.command('verify')))
    .description('verify a receipt or a bundle from files alone: no server, no database, no configuration')
    .argument('<file>', 'a receipt as it was handed out, JSON; or a bundle, a ZIP file or a folder')
    .option('--verbose', 'print every step of every document of a bundle', false)
    .addHelpText(
      'after',
      `
Prints each step: ✓ holds, ✗ is false, – could not be checked, because this receipt does not open what it takes.
Of a bundle, a line for each document that holds, and every step that is false.
Exits with 0 when nothing is false, 1 when something is, 2 when the files cannot be used.

Examples:
  npx patchbay verify receipt.json --keys keys.json
  npx patchbay verify receipt.json --keys keys.json --replay disclosure.json --backbone DIR --adapter DIR
  npx patchbay verify bundle.zip --trust 0x… --rpc https://… --anchor 0x…`,
    )
    .action((file: string, flags) =>
      run(flags.json, async () =>
        wantsReplay(flags)
          ? (await import('./commands/verify-replay.ts')).verifyAndReplay(io, file, flags)
          : (await import('./commands/verify.ts')).verifyCommand(io, file, flags),
      ),
    );
}

/** `patchbay audit`. */
export function addAudit(program: Command, io: CliIo, run: Run): void {
  evidence(program.command('audit'))
    .description('find what was left out, changed, counted twice or paid wrongly, from what you hold')
    .argument('<bundle>', 'your receipts, statements, epochs and claims: a ZIP file or a folder')
    .requiredOption(
      '--epoch <number>',
      'the epoch whose accounts are compared with your receipts',
      epochNumber,
    )
    .option('--account <address>', 'the account on the chain that you expect to be paid')
    .addHelpText(
      'after',
      `
Prints each finding with its code, the documents that show it, and whom it convinces: anyone, or you alone.
Exits with 0 when nothing is found, 1 when something is, 2 when the files cannot be used.

Example:
  npx patchbay audit --epoch 12 bundle.zip --trust 0x… --head kept.json`,
    )
    .action((bundle: string, flags) =>
      run(flags.json, async () => (await import('./commands/audit.ts')).auditCommand(io, bundle, flags)),
    );
}

/** `patchbay bundle`. */
export function addBundle(program: Command, io: CliIo, run: Run): void {
  connected(program.command('bundle'))
    .description('collect your receipts, statements, epochs and claim from a server, for verify and audit')
    .requiredOption('--out <file>', 'the bundle; must not be there yet')
    .option(
      '--adapter-version <id>',
      'an adapter version of yours; repeat it for several; without it, your own requests',
      collect,
      [],
    )
    .option('--epoch <number>', 'the last epoch; without it, the latest', epochNumber)
    .option('--head <file>', 'a head that you kept; the proof from it to the latest goes into the bundle')
    .addHelpText(
      'after',
      `
Until it is complete, it is a folder beside the file, which the same command goes on with after an interruption.

Example:
  npx patchbay bundle --out january.zip --head kept.json`,
    )
    .action((flags) =>
      run(flags.json, async () => (await import('./commands/bundle.ts')).bundleCommand(io, flags)),
    );
}

/** Epochs are numbered from 1 with 64 bits. */
function epochNumber(text: string): bigint {
  if (!/^[1-9][0-9]{0,18}$/.test(text)) throw new InvalidArgumentError('It must be a whole number from 1.');
  return BigInt(text);
}
