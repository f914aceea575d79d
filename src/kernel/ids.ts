import { v7 } from 'uuid';
import type { Clock } from './clock.ts';

/** A time-ordered identifier (RFC 9562, version 7), lower-case with dashes. */
export type Uuid = string;

/** Makes a uuidv7 whose time part comes from the given clock, so that partitions by id follow injected time. */
export function newId(clock: Clock): Uuid {
  return v7({ msecs: clock.nowMs() });
}

const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether the text is a lower-case dashed uuid of any version. */
export function isUuid(text: string): boolean {
  return UUID_PATTERN.test(text);
}
