import { basename, resolve } from 'node:path';
import { resolveConnection } from '../connection.ts';
import { EXIT } from '../exit-codes.ts';
import { unreachable } from '../graphql-client.ts';
import { type CliIo, interruptible, progressFor } from '../io.ts';
import { loadPushAdapter } from '../parts.ts';
import type { ClientFlags } from './adapter.ts';

/** Flags of `patchbay adapter push`. */
interface PushFlags extends ClientFlags {
  readonly name?: string;
  readonly wait: boolean;
  readonly backbone?: string;
  readonly idempotencyKey?: string;
}

/** Uploads an adapter folder and, when asked, waits for the outcome of its validation. */
export async function adapterPush(io: CliIo, dir: string, flags: PushFlags): Promise<number> {
  const name = flags.name ?? basename(resolve(dir));
  const connection = await resolveConnection(io.loadConfig().config, flags);
  const pushAdapter = await loadPushAdapter();
  return interruptible(io, async (signal) => {
    const result = await reached(
      connection.url,
      signal,
      pushAdapter({
        dir,
        name,
        url: connection.url,
        key: connection.key,
        wait: flags.wait,
        ...(flags.backbone === undefined ? {} : { backbone: flags.backbone }),
        ...(flags.idempotencyKey === undefined ? {} : { idempotencyKey: flags.idempotencyKey }),
        progress: progressFor(io, flags.json),
        signal,
      }),
    );
    if (result === null) return EXIT.interrupted;
    if (flags.json) io.out(`${JSON.stringify(result)}\n`);
    else {
      const rejected =
        result.rejection === null
          ? ''
          : `\n${result.rejection.code}: ${result.rejection.message}\nFix: ${result.rejection.fix}`;
      const next =
        result.state === 'READY' ? `\nTry it: npx patchbay infer --adapter ${name} --message "…"` : '';
      io.out(`${name} version ${result.number}: ${result.state}${rejected}${next}\n`);
    }
    return result.state === 'REJECTED' ? EXIT.refused : EXIT.ok;
  });
}

/** The outcome, null after Ctrl-C, or an error that says when nothing answered: `fetch` only says that it failed. */
async function reached<T>(url: string, signal: AbortSignal, work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (signal.aborted) return null;
    throw error instanceof TypeError && error.message === 'fetch failed' ? unreachable(url, error) : error;
  }
}
