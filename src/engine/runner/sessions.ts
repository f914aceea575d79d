import { InferenceSession } from 'onnxruntime-node';
import type { Batch } from './batches.ts';

/** What the sessions of a host runner have in common. */
export interface SessionSettings {
  /** 0 lets the runtime choose. */
  readonly intraOpThreads: number;
  /** Whether the processor multiplies unsigned with signed bytes exactly. */
  readonly exactBytes: boolean;
  readonly executionProviders: readonly string[];
}

/** Paths of the graphs of a host runner. All forms compute the same; see docs/decisions/0016-graph-forms.md. */
export interface GraphPaths {
  /** Takes every run. */
  readonly general: string;
  /** For runs whose rows append one token each to caches of one capacity; absent where forms share no weights. */
  readonly single?: {
    readonly adapted: string;
    /** For rows without adapters. */
    readonly plain: string;
  };
}

/** The sessions of a runner, one for each form of the graph. */
export class StepSessions {
  readonly #general: InferenceSession;
  readonly #single: { readonly adapted: InferenceSession; readonly plain: InferenceSession } | null;

  private constructor(
    general: InferenceSession,
    single: { readonly adapted: InferenceSession; readonly plain: InferenceSession } | null,
  ) {
    this.#general = general;
    this.#single = single;
  }

  static async open(paths: GraphPaths, settings: SessionSettings): Promise<StepSessions> {
    const open = (path: string): Promise<InferenceSession> =>
      InferenceSession.create(path, sessionOptions(settings));
    const general = await open(paths.general);
    if (paths.single === undefined) return new StepSessions(general, null);
    const adapted = await open(paths.single.adapted);
    const plain = await open(paths.single.plain);
    return new StepSessions(general, { adapted, plain });
  }

  /** The session with the fewest nodes that serves this batch. */
  for(batch: Batch): InferenceSession {
    if (this.#single === null || !isSingle(batch)) return this.#general;
    return batch.rows.some((row) => row.adapters.length > 0) ? this.#single.adapted : this.#single.plain;
  }

  async release(): Promise<void> {
    await this.#general.release();
    await this.#single?.adapted.release();
    await this.#single?.plain.release();
  }
}

/** Whether every lane of attention is one row's one token, in the order of the rows. */
function isSingle({ rows, caches }: Batch): boolean {
  const [range, ...others] = caches;
  if (range === undefined || others.length > 0 || rows.length !== range.to - range.from) return false;
  return rows.every(({ row, tokens }, lane) => {
    return tokens.length === 1 && range.kvClass.slots[range.from + lane] === row;
  });
}

/**
 * Writes a model out as the runtime would run it, with its weights packed for this machine's matrix kernels in a file
 * beside it. Sessions that read that file share its memory, where each would pack a copy of its own.
 */
export async function packModel(
  modelPath: string,
  packedPath: string,
  dataName: string,
  settings: SessionSettings,
): Promise<void> {
  const options = sessionOptions(settings);
  const session = await InferenceSession.create(modelPath, {
    ...options,
    optimizedModelFilePath: packedPath,
    extra: {
      session: {
        ...options.extra.session,
        optimized_model_external_initializers_file_name: dataName,
        // Smaller ones stay in the model: constants of a graph, not weights.
        optimized_model_external_initializers_min_size_in_bytes: '256',
        save_external_prepacked_constant_initializers: '1',
      },
    },
  });
  await session.release();
}

function sessionOptions({
  intraOpThreads,
  exactBytes,
  executionProviders,
}: SessionSettings): InferenceSession.SessionOptions & {
  readonly extra: { readonly session: Record<string, string> };
} {
  return {
    executionProviders: [...executionProviders],
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: 1,
    graphOptimizationLevel: 'all',
    // Shapes change from step to step, so a memory plan made for one step would never fit the next.
    enableMemPattern: false,
    // A packed model is hardware-specific, which the runtime warns of and we take care of.
    logSeverityLevel: 3,
    extra: {
      session: {
        // Where the fast kernel for unsigned times signed bytes saturates, this takes one that does not, at half the speed.
        x64quantprecision: exactBytes ? '0' : '1',
        // Threads that spin between runs would take the cores from the other sessions' and from everything else.
        force_spinning_stop: '1',
      },
    },
  };
}
