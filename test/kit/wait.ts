import { setTimeout as delay } from 'node:timers/promises';

/** Waits until the condition holds, polling; throws with the description when it does not in time. */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  options: { readonly timeoutMs?: number; readonly what?: string } = {},
): Promise<void> {
  const deadline = performance.now() + (options.timeoutMs ?? 30_000);
  while (!(await condition())) {
    if (performance.now() > deadline)
      throw new Error(`Waited in vain for ${options.what ?? 'the condition'}.`);
    await delay(10);
  }
}
