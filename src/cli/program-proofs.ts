import type { Command } from 'commander';
import type { CliIo } from './io.ts';
import { collect, json } from './options.ts';
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

/** `patchbay verify`. */
export function addVerify(program: Command, io: CliIo, run: Run): void {
  replayOptions(program.command('verify'))
    .description('verify a receipt from files alone: no server, no database, no configuration')
    .argument('<receipt>', 'the receipt as it was handed out, JSON')
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
    .addOption(json())
    .addHelpText(
      'after',
      `
Prints each step: ✓ holds, ✗ is false, – could not be checked, because this receipt does not open what it takes.
Exits with 0 when nothing is false, 1 when something is, 2 when the files cannot be used.

Example:
  npx patchbay verify receipt.json --keys keys.json
  npx patchbay verify receipt.json --keys keys.json --replay disclosure.json --backbone DIR --adapter DIR`,
    )
    .action((receipt: string, flags) =>
      run(flags.json, async () =>
        wantsReplay(flags)
          ? (await import('./commands/verify-replay.ts')).verifyAndReplay(io, receipt, flags)
          : (await import('./commands/verify.ts')).verifyCommand(io, receipt, flags),
      ),
    );
}
