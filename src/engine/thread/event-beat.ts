import type { Clock } from '../../kernel/clock.ts';
import type { SequenceEvent } from '../port.ts';
import type { FromEngine } from './messages.ts';

/** How often tokens cross from the engine's thread. */
export interface EventBeatOptions {
  /**
   * Events that all sequences together send in a second, as far as `intervalMsMax` allows; 0 sends what each step gave.
   */
  readonly chunksPerSecond: number;
  /** Longest that tokens wait, however many sequences there are. */
  readonly intervalMsMax: number;
}

/** Every step by itself. */
export const EVERY_STEP: EventBeatOptions = { chunksPerSecond: 0, intervalMsMax: 100 };

/** What an {@link EventBeat} works with. */
export interface EventBeatDeps {
  readonly clock: Pick<Clock, 'monotonicMs'>;
  readonly send: (events: (FromEngine & { kind: 'events' })['events']) => void;
  /** Calls back after the time. */
  readonly later: (ms: number, run: () => void) => void;
}

/**
 * Sends the events of all sequences on a beat that they share. What a chunk costs besides its tokens (a message, a
 * transaction, a GraphQL execution, a frame) is then paid so many times a second and not once for each step, by a
 * thread that takes its time from the engine's. The beat slows down with the number of sequences, so that a single
 * one gets each token as it comes. The first tokens of a sequence and its end wait for nothing.
 */
export class EventBeat {
  readonly #options: EventBeatOptions;
  readonly #deps: EventBeatDeps;
  /** What waits, by sequence, in the order of their oldest event. */
  readonly #waiting = new Map<string, SequenceEvent[]>();
  readonly #urgent = new Set<string>();
  /** Sequences that have sent tokens and not ended. */
  readonly #running = new Set<string>();
  #dueMs = Number.NEGATIVE_INFINITY;
  #turnEnds = false;
  #timed = false;

  constructor(options: EventBeatOptions, deps: EventBeatDeps) {
    this.#options = options;
    this.#deps = deps;
  }

  /** Takes an event; it is sent with those of the same turn or of the same beat. */
  emit(id: string, event: SequenceEvent): void {
    this.#append(id, event);
    if (event.kind === 'end') this.#running.delete(id);
    if (event.kind === 'end' || !this.#running.has(id)) this.#urgent.add(id);
    if (event.kind === 'tokens') this.#running.add(id);
    if (this.#turnEnds) return;
    // Microtasks run when the engine's turn is over, and a turn emits all events of a step.
    this.#turnEnds = true;
    queueMicrotask(() => this.#endTurn());
  }

  /** Sends everything now. */
  flush(): void {
    const ids = [...this.#waiting.keys()];
    const { chunksPerSecond, intervalMsMax } = this.#options;
    const intervalMs = chunksPerSecond === 0 ? 0 : (ids.length * 1000) / chunksPerSecond;
    this.#dueMs = this.#deps.clock.monotonicMs() + Math.min(intervalMs, intervalMsMax);
    this.#send(ids);
  }

  #endTurn(): void {
    this.#turnEnds = false;
    const leftMs = this.#dueMs - this.#deps.clock.monotonicMs();
    if (leftMs <= 0) this.flush();
    else this.#send([...this.#urgent]);
    if (this.#waiting.size > 0 && !this.#timed) this.#timeOut(leftMs);
  }

  /** Tokens are not to wait for a step that may not come, because all that runs is waiting for something. */
  #timeOut(ms: number): void {
    this.#timed = true;
    this.#deps.later(ms, () => {
      this.#timed = false;
      if (this.#waiting.size === 0) return;
      const leftMs = this.#dueMs - this.#deps.clock.monotonicMs();
      if (leftMs <= 0) this.flush();
      else this.#timeOut(leftMs);
    });
  }

  #send(ids: readonly string[]): void {
    if (ids.length === 0) return;
    const events = ids.flatMap((id) => (this.#waiting.get(id) ?? []).map((event) => ({ id, event })));
    for (const id of ids) {
      this.#waiting.delete(id);
      this.#urgent.delete(id);
    }
    if (events.length > 0) this.#deps.send(events);
  }

  #append(id: string, event: SequenceEvent): void {
    const events = this.#waiting.get(id);
    const last = events?.at(-1);
    if (events === undefined) this.#waiting.set(id, [event]);
    else if (last?.kind === 'tokens' && event.kind === 'tokens') {
      const merged = { ...last, tokens: [...last.tokens, ...event.tokens], text: last.text + event.text };
      events[events.length - 1] = merged;
    } else events.push(event);
  }
}
