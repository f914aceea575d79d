import { InferenceSession, type Tensor } from 'onnxruntime-node';
import { invariant } from '../../kernel/errors.ts';

/** Tensors by input name. */
export type Feeds = Record<string, Tensor>;

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

/**
 * Which form of the graph serves a run: `general` any, `plain` and `adapted` those whose rows append one token each, in
 * the order of their slots in one class of the cache, without adapters or with one each.
 */
export type RunForm = 'general' | 'plain' | 'adapted';

type Sessions = Partial<Record<RunForm, InferenceSession>> & { readonly general: InferenceSession };

/** The sessions of a runner, one for each form of the graph. */
export class StepSessions {
  readonly #sessions: Sessions;

  private constructor(sessions: Sessions) {
    this.#sessions = sessions;
  }

  static async open(paths: GraphPaths, settings: SessionSettings): Promise<StepSessions> {
    const open = (path: string): Promise<InferenceSession> =>
      InferenceSession.create(path, sessionOptions(settings));
    const general = await open(paths.general);
    if (paths.single === undefined) return new StepSessions({ general });
    const adapted = await open(paths.single.adapted);
    return new StepSessions({ general, adapted, plain: await open(paths.single.plain) });
  }

  /** Whether there is a session for this form. */
  has(form: RunForm): boolean {
    return this.#sessions[form] !== undefined;
  }

  run(form: RunForm, feeds: Feeds): Promise<InferenceSession.ReturnType> {
    const session = this.#sessions[form];
    invariant(session !== undefined, 'inputs are built for a form that there is');
    return session.run(feeds);
  }

  async release(): Promise<void> {
    for (const session of Object.values(this.#sessions)) await session.release();
  }
}

/** How a model is written out. */
export interface PackSettings extends SessionSettings {
  /**
   * Whether weights are stored as the matrix kernels take them. Those of 4 bits cannot be: what the runtime stores of them
   * reads back as zeros (onnxruntime 1.30), so each session packs a copy.
   */
  readonly prepacked: boolean;
}

/**
 * Writes a model out as the runtime would run it, with its weights packed for this machine's matrix kernels in a file
 * beside it. Sessions that read that file share its memory, where each would pack a copy of its own.
 */
export async function packModel(
  modelPath: string,
  packedPath: string,
  dataName: string,
  settings: PackSettings,
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
        save_external_prepacked_constant_initializers: settings.prepacked ? '1' : '0',
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
