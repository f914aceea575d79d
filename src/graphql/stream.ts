/**
 * Maps a stream without buffering, and without getting in the way of its end.
 *
 * An async generator would do the mapping in three lines, but its `return()` waits for a pending `next()`: a client
 * that leaves while the engine is silent would keep its sequence running. Here `return()` reaches the source at
 * once, and a pending `next()` resolves as done. `next()` is passed on only when it is called, because the source
 * takes it as the acknowledgement of the event before.
 */
export function mapStream<S, T>(source: AsyncIterable<S>, map: (event: S) => T): AsyncIterableIterator<T> {
  const iterator = source[Symbol.asyncIterator]();
  let ended = false;
  let finish: (() => void) | undefined;
  const end = new Promise<IteratorReturnResult<undefined>>((resolve) => {
    finish = () => resolve({ done: true, value: undefined });
  });

  async function take(): Promise<IteratorResult<T>> {
    const result = await iterator.next();
    if (result.done) {
      ended = true;
      return { done: true, value: undefined };
    }
    return { done: false, value: map(result.value) };
  }

  return {
    [Symbol.asyncIterator]() {
      return this;
    },
    next(): Promise<IteratorResult<T>> {
      return ended ? Promise.resolve({ done: true, value: undefined }) : Promise.race([take(), end]);
    },
    async return(): Promise<IteratorResult<T>> {
      if (!ended) {
        ended = true;
        finish?.();
        await iterator.return?.();
      }
      return { done: true, value: undefined };
    },
  };
}
