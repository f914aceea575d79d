import { systemClock } from '../../kernel/clock.ts';
import { type PatchbayError, toPatchbayError } from '../../kernel/errors.ts';
import type { Engine, SequenceEvent } from '../port.ts';
import { EVERY_STEP, EventBeat, type EventBeatOptions } from './event-beat.ts';
import { type Answer, type FromEngine, isToEngine, type ThreadPort, type ToEngine } from './messages.ts';

/**
 * Serves an engine to the client at the other end of the port. Events leave on a beat (see {@link EventBeat}); by
 * default, all events of a step as one message.
 */
export function serveEngine(engine: Engine, port: ThreadPort, options: EventBeatOptions = EVERY_STEP): void {
  const post = (message: FromEngine): void => port.postMessage(message);
  const beat = new EventBeat(options, {
    clock: systemClock,
    send: (events) => post({ kind: 'events', events }),
    later: (ms, run) => void setTimeout(run, ms),
  });
  port.on('message', (message) => {
    if (!isToEngine(message)) return;
    if (message.kind === 'cancel') {
      engine.cancel(message.id);
      return;
    }
    const { call } = message;
    answer(engine, message, (id, event) => beat.emit(id, event)).then(
      (result) => {
        beat.flush();
        post({ kind: 'answer', call, answer: result });
      },
      (error: unknown) =>
        post({ kind: 'answer', call, answer: { kind: 'refused', error: publicError(error) } }),
    );
  });
  post({ kind: 'ready', info: engine.info });
}

/** Tells the client that the engine could not be made; for the worker's entry. */
export function reportStartFailure(port: ThreadPort, error: unknown): void {
  const message: FromEngine = { kind: 'failed', error: publicError(error) };
  port.postMessage(message);
}

async function answer(
  engine: Engine,
  message: Exclude<ToEngine, { kind: 'cancel' }>,
  emit: (id: string, event: SequenceEvent) => void,
): Promise<Answer> {
  switch (message.kind) {
    case 'submit': {
      const { id } = message.request;
      await engine.submit(message.request, (event) => emit(id, event));
      return { kind: 'accepted' };
    }
    case 'probe':
      return { kind: 'probed', result: await engine.probe(message.digest, message.promptIds) };
    case 'status':
      return { kind: 'status', status: await engine.status() };
    case 'residency':
      return { kind: 'residency', hours: await engine.drainResidency() };
    case 'close':
      await engine.close({ graceMs: message.graceMs });
      return { kind: 'closed' };
  }
}

function publicError(error: unknown): ReturnType<PatchbayError['toPublic']> {
  return toPatchbayError(error).toPublic();
}
