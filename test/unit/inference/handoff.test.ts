import { describe, expect, it } from 'vitest';
import { Handoff } from '../../../src/inference/handoff.ts';

/** Whether a promise has resolved by now. */
async function isResolved(promise: Promise<unknown>): Promise<boolean> {
  const open = Symbol('open');
  await new Promise(setImmediate);
  return (await Promise.race([promise, Promise.resolve(open)])) !== open;
}

function handoff(onReturn: () => Promise<void> = async () => {}): Handoff<string> {
  return new Handoff<string>(onReturn);
}

describe('a handoff', () => {
  it('takes an event as written only when the consumer comes back', async () => {
    const h = handoff();
    const offer = h.offer('a');
    expect(await h.next()).toEqual({ done: false, value: 'a' });
    expect(await isResolved(offer)).toBe(false);
    const second = h.next();
    expect(await offer).toBe('written');
    h.end();
    expect(await second).toEqual({ done: true, value: undefined });
  });

  it('gives an event to a consumer that waits already', async () => {
    const h = handoff();
    const waiting = h.next();
    const offer = h.offer('a');
    expect(await waiting).toEqual({ done: false, value: 'a' });
    expect(await isResolved(offer)).toBe(false);
    expect(h.pending).toBe(true);
  });

  it('tells the producer that the consumer left, and the consumer when the producer is done with it', async () => {
    let finish = (): void => {};
    const h = handoff(
      () =>
        new Promise((resolve) => {
          finish = resolve;
        }),
    );
    const offer = h.offer('a');
    const left = h.return();
    expect(await offer).toBe('gone');
    expect(await isResolved(left)).toBe(false);
    finish();
    expect(await left).toEqual({ done: true, value: undefined });
    expect(await h.offer('b')).toBe('gone');
    expect(await h.next()).toEqual({ done: true, value: undefined });
  });

  it('still delivers an interrupted event, then the last ones, then ends', async () => {
    const h = handoff();
    const offer = h.offer('a');
    h.interrupt();
    expect(await offer).toBe('interrupted');
    h.end('b', 'c');
    const seen: string[] = [];
    for await (const event of h) seen.push(event);
    expect(seen).toEqual(['a', 'b', 'c']);
  });

  it('is not stalled while it is the consumer who waits', async () => {
    const h = handoff();
    const waiting = h.next();
    expect(h.pending).toBe(false);
    h.end('z');
    expect(await waiting).toEqual({ done: false, value: 'z' });
    expect(await h.next()).toEqual({ done: true, value: undefined });
  });
});
