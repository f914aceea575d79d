import type { Command } from 'commander';
import { UsageError } from './io.ts';
import { bits, collect, decimal, wholeNumber } from './options.ts';

/** What `verify` takes to run a request again. */
export function replayOptions(command: Command): Command {
  return command
    .option('--replay <file>', 'a disclosure of the request: check it, and run the request again')
    .option('--backbone <folder>', 'with --replay: checkpoint folder of the backbone')
    .option('--adapter <folder>', 'with --replay: an adapter; repeat it for a blend', collect, [])
    .addOption(bits())
    .option('--threads <number>', 'threads of the matrix kernels, 0 for all cores', wholeNumber(0, 256), 0)
    .option('--near-tie <logits>', 'how near two tokens are that may stand for each other', decimal(0, 100));
}

/** Whether a request is to be run again; what says on what, without a disclosure, was meant to and must not be ignored. */
export function wantsReplay(flags: {
  readonly replay?: string;
  readonly backbone?: string;
  readonly adapter: readonly string[];
}): boolean {
  if (flags.replay !== undefined) return true;
  if (flags.backbone === undefined && flags.adapter.length === 0) return false;
  throw new UsageError(
    '--backbone and --adapter say on what a request is run again, and --replay is not given.',
    'Give --replay with the disclosure of the request, or leave them out.',
  );
}
