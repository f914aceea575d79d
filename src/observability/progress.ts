/** Tells a person what takes time; the program behaves the same with any implementation. */
export interface Progress {
  /** Begins a step, such as `Creating the database`. Steps do not overlap. */
  start(label: string): ProgressStep;
}

/** A step under way. Exactly one of `done` and `fail` ends it; calls after that are ignored. */
export interface ProgressStep {
  /** How far it is, when that is known; the unit only changes how numbers are shown. */
  update(done: number, total: number, unit?: ProgressUnit): void;
  /** It ended well; the note replaces the numbers, such as `2 migrations`. */
  done(note?: string): void;
  fail(): void;
}

export type ProgressUnit = 'bytes' | 'items';

/** Shows nothing. */
export const silentProgress: Progress = {
  start: () => ({ update: () => {}, done: () => {}, fail: () => {} }),
};

/** What a {@link Progress} writes to. */
export interface ProgressOutput {
  write(text: string): unknown;
  readonly columns?: number;
}

/** Runs work as one step that ends with it. */
export async function withProgress<T>(
  progress: Progress,
  label: string,
  work: (step: ProgressStep) => Promise<T>,
): Promise<T> {
  const step = progress.start(label);
  try {
    const result = await work(step);
    step.done();
    return result;
  } catch (error) {
    step.fail();
    throw error;
  }
}

/**
 * Plain lines, for logs: one when a step begins to take long, one when it ends. Steps shorter than that leave no
 * line, so that a later start is quiet.
 */
export function plainProgress(output: ProgressOutput, options: PlainOptions): Progress {
  return {
    start(label) {
      const started = options.nowMs();
      let announced = false;
      let ended = false;
      const announce = (): void => {
        if (!announced) output.write(`${label} …\n`);
        announced = true;
      };
      const timer = setTimeout(announce, options.quietMs);
      timer.unref();
      let reported = 0;
      const end = (line: string | null): void => {
        if (ended) return;
        ended = true;
        clearTimeout(timer);
        if (line !== null) output.write(line);
      };
      return {
        update(done, total, unit = 'items') {
          const quarter = total > 0 ? Math.floor((done / total) * 4) : 0;
          if (ended || !announced || quarter <= reported || quarter >= 4) return;
          reported = quarter;
          output.write(`${label}: ${amount(done, total, unit)}\n`);
        },
        done(note) {
          const took = seconds(options.nowMs() - started);
          end(announced ? `${label}: ${note ?? 'done'} (${took})\n` : null);
        },
        fail() {
          // The error that follows says enough about a step that nobody has heard of.
          end(announced ? `${label}: failed\n` : null);
        },
      };
    },
  };
}

export interface PlainOptions {
  /** A step that takes no longer than this leaves no line. */
  readonly quietMs: number;
  readonly nowMs: () => number;
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const REDRAW_MS = 100;

/** One live line on a terminal. */
export function terminalProgress(output: ProgressOutput, nowMs: () => number): Progress {
  return {
    start(label) {
      const started = nowMs();
      let frame = 0;
      let numbers = '';
      let ended = false;
      const draw = (): void => {
        const line = `${FRAMES[frame++ % FRAMES.length]} ${label}${numbers}  ${seconds(nowMs() - started)}`;
        output.write(`\r\x1b[2K${line.slice(0, (output.columns ?? 80) - 1)}`);
      };
      const timer = setInterval(draw, REDRAW_MS);
      timer.unref();
      draw();
      const end = (line: string): void => {
        if (ended) return;
        ended = true;
        clearInterval(timer);
        output.write(`\r\x1b[2K${line}\n`);
      };
      return {
        update(done, total, unit = 'items') {
          numbers = `  ${bar(done, total)} ${amount(done, total, unit)}`;
        },
        done(note) {
          end(`✔ ${label}${note === undefined ? '' : `: ${note}`}  ${seconds(nowMs() - started)}`);
        },
        fail() {
          end(`✖ ${label}`);
        },
      };
    },
  };
}

function bar(done: number, total: number): string {
  const width = 20;
  const filled = total > 0 ? Math.min(width, Math.round((done / total) * width)) : 0;
  return '█'.repeat(filled) + '░'.repeat(width - filled);
}

function amount(done: number, total: number, unit: ProgressUnit): string {
  return unit === 'bytes' ? `${formatBytes(done)} of ${formatBytes(total)}` : `${done} of ${total}`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

/** A byte count for people, in powers of 1024. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let index = 0;
  while (value >= 1024 && index < units.length - 1) {
    value /= 1024;
    index += 1;
  }
  return `${index === 0 ? value : value.toFixed(1)} ${units[index]}`;
}
