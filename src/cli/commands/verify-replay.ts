import { PatchbayError } from '../../kernel/errors.ts';
import { withProgress } from '../../observability/progress.ts';
import { NEAR_TIE } from '../../replay/near-tie.ts';
import { checkDisclosure } from '../../verifier/checks/disclosure.ts';
import { checkOpened } from '../../verifier/checks/opened.ts';
import { type Executed, executedOf } from '../../verifier/executed.ts';
import { singleReceipt } from '../../verifier/files.ts';
import { type Disclosure, readDisclosure } from '../../verifier/input/disclosure.ts';
import { readFileBytes } from '../../verifier/input/read.ts';
import { holdsIn, type Step, unchecked } from '../../verifier/step.ts';
import { verify } from '../../verifier/verify.ts';
import { type CliIo, progressFor, reportTo, UsageError } from '../io.ts';
import { loadReplay } from '../parts.ts';
import { byteProgress } from '../ports.ts';
import { filesOf, usable } from '../verifier-input.ts';
import { report, type VerifyFlags } from './verify.ts';
import { replaySteps } from './verify-replay-steps.ts';

/** What the command line says besides, of a replay. */
export interface ReplayFlags extends VerifyFlags {
  readonly replay: string;
  readonly backbone?: string;
  readonly adapter: readonly string[];
  readonly bits: 32 | 8 | 4;
  readonly threads: number;
  readonly nearTie?: number;
}

/** Verifies a receipt, what was disclosed of its request, and runs that again: no database, no configuration, no server. */
export async function verifyAndReplay(io: CliIo, path: string, flags: ReplayFlags): Promise<number> {
  const { backbone } = flags;
  if (backbone === undefined) {
    throw new UsageError(
      '--replay runs on a backbone, and none is given.',
      'Give --backbone with the checkpoint folder, and --adapter with the folder of each adapter.',
    );
  }
  const { receipt, disclosure, steps } = await usable(async () => {
    const evidence = await singleReceipt(filesOf(path, flags));
    if (evidence === null) {
      throw new UsageError(
        '--replay runs the request of one receipt, and asks no chain.',
        'Name the file of a receipt, and leave --rpc to a second call.',
      );
    }
    return {
      receipt: evidence.receipt,
      disclosure: readDisclosure(await readFileBytes(flags.replay)),
      steps: verify(evidence),
    };
  });
  requireGreedy(disclosure);
  const { view } = checkOpened(receipt);
  const disclosed = checkDisclosure(receipt, view, disclosure);
  const executed = executedOf(view);
  const isOther = disclosed.some(({ result }) => result === 'false');
  const bound = BINDING.every((name) => holdsIn(disclosed, name));
  const replayed = isOther
    ? [unchecked('replay', 'not run: this is not what the receipt commits to')]
    : !bound
      ? [unchecked('replay', 'not run: this receipt does not open the commitments, so any tokens would do')]
      : typeof executed === 'string'
        ? [unchecked('replay', executed)]
        : await runAgain(io, { ...flags, backbone }, disclosure, executed);
  return report(io, [...steps, ...disclosed, ...replayed], flags.json);
}

/** What makes a disclosure one of this request, and of no other tokens. */
const BINDING = ['disclosure.id', 'disclosure.prompt', 'disclosure.output'];

function requireGreedy({ sampling: { temperature } }: Disclosure): void {
  if (temperature === 0) return;
  throw new PatchbayError('REPLAY_NOT_GREEDY', `The request drew its tokens at temperature ${temperature}.`);
}

async function runAgain(
  io: CliIo,
  flags: ReplayFlags & { readonly backbone: string },
  disclosure: Disclosure,
  executed: Executed,
): Promise<readonly Step[]> {
  const { adapters, finish } = executed;
  if (flags.adapter.length !== adapters.length) throw otherNumber(flags.adapter.length, executed);
  const replay = await loadReplay();
  const { output, stop } = disclosure;
  // What was cut off from outside is compared as far as it goes.
  const isWhole = finish === 'stop' || finish === 'length';
  const found = await withProgress(
    progressFor(io, flags.json),
    `Running it again on ${flags.backbone}`,
    (progress) =>
      replay({
        backbone: executed.backbone,
        source: { dir: flags.backbone, bits: flags.bits, onProgress: byteProgress(progress) },
        adapterDirs: flags.adapter,
        uses: adapters,
        promptIds: disclosure.prompt,
        outputIds: output,
        repetitionPenalty: disclosure.sampling.repetitionPenalty,
        stop: isWhole ? stop : { ...stop, maxTokens: Math.max(1, output.length) },
        threads: flags.threads,
        report: reportTo(io),
      }),
  );
  return replaySteps(found, {
    executed,
    answer: output,
    bits: flags.bits,
    finish: isWhole ? finish : null,
    nearTie: flags.nearTie ?? NEAR_TIE[flags.bits],
  });
}

function otherNumber(given: number, { adapters }: Executed): UsageError {
  if (adapters.length === 0) {
    return new UsageError(
      `The request ran on the plain backbone, and --adapter is given ${given} times.`,
      'Leave --adapter out.',
    );
  }
  const digests = adapters.map(({ digest }) => digest).join(', ');
  return new UsageError(
    `The request ran on ${adapters.length} adapter versions, and --adapter is given ${given} times.`,
    `Give --adapter with the folder of each. Their digests are ${digests}.`,
  );
}
