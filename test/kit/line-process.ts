import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { z } from 'zod';

/** A TypeScript module in a process of its own, which is spoken to in lines of JSON. */
export class LineProcess {
  readonly child: ChildProcess;
  readonly exited: Promise<void>;
  readonly #lines: AsyncIterator<string>;

  constructor(module: string, args: readonly string[]) {
    const child = spawn(process.execPath, ['test/kit/run-ts.mjs', module, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.child = child;
    this.exited = new Promise((resolve) => child.once('exit', () => resolve()));
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  /** Says a line to the process. */
  send(message: object): void {
    this.child.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  /** The next line that the process says. */
  async next<Schema extends z.ZodType>(schema: Schema): Promise<z.infer<Schema>> {
    const line = await this.#lines.next();
    if (line.done === true) throw new Error('The process has ended.');
    return schema.parse(JSON.parse(line.value));
  }

  /** Lets it end, and waits for it. */
  async end(): Promise<void> {
    this.child.stdin?.end();
    await this.exited;
  }
}
