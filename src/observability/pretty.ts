import type { DestinationStream } from 'pino';

const COLORS = new Map([
  ['trace', 90],
  ['debug', 90],
  ['info', 36],
  ['warn', 33],
  ['error', 31],
  ['fatal', 35],
]);

/** Turns pino's JSON lines into lines for people: `12:00:00.000 info  message  field=value`. */
export function prettyStream(destination: DestinationStream, color: boolean): DestinationStream {
  return {
    write(line: string): void {
      destination.write(`${prettyLine(line, color)}\n`);
    },
  };
}

/** One line; text that is not a log object stays as it is. */
export function prettyLine(line: string, color: boolean): string {
  const record = parse(line);
  if (record === null) return line.trimEnd();
  const { time, level, msg, name, err, ...fields } = record;
  const paint = (code: number, text: string): string => (color ? `\x1b[${code}m${text}\x1b[0m` : text);
  const levelText = String(level);
  const clock = typeof time === 'string' ? time.slice(11, 23) : '';
  const parts = [paint(90, clock), paint(COLORS.get(levelText) ?? 0, levelText.padEnd(5))];
  if (name !== undefined) parts.push(paint(90, `${String(name)}:`));
  if (msg !== undefined) parts.push(String(msg));
  const rest = Object.entries(fields).map(([key, value]) => `${key}=${show(value)}`);
  if (rest.length > 0) parts.push(paint(90, rest.join(' ')));
  return parts.join(' ') + describeError(err);
}

function parse(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : null;
  } catch {
    return null;
  }
}

function show(value: unknown): string {
  return typeof value === 'string' && !/[\s="]/.test(value) ? value : JSON.stringify(value);
}

/** The stack, then the stacks of the causes, indented below the line. */
function describeError(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  const stack = 'stack' in error && typeof error.stack === 'string' ? error.stack : JSON.stringify(error);
  const below = 'cause' in error ? describeError(error.cause).replace('\n  ', '\n  caused by ') : '';
  return `\n  ${stack.replaceAll('\n', '\n  ')}${below}`;
}
