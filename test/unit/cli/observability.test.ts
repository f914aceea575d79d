import { expect, test } from 'vitest';
import { createLogger } from '../../../src/observability/logger.ts';
import { formatBytes, plainProgress, withProgress } from '../../../src/observability/progress.ts';

function capture(format: 'json' | 'pretty') {
  const lines: string[] = [];
  const destination = { write: (line: string) => void lines.push(line) };
  return { lines, logger: createLogger({ level: 'info', format }, { destination, terminal: false }) };
}

test('keys, tokens and prompts never reach the log', () => {
  const { lines, logger } = capture('json');
  logger.info(
    { key: 'pb_secret', request: { authorization: 'Bearer pb_secret', prompt: 'pb_secret' } },
    'hello',
  );
  expect(lines.join('')).not.toContain('pb_secret');
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({ level: 'info', msg: 'hello' });
});

test('an error is logged with its code and all of its causes', () => {
  const { lines, logger } = capture('json');
  logger.error({ err: new Error('outer', { cause: new Error('inner') }) }, 'failed');
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    err: { message: 'outer', cause: { message: 'inner' } },
  });
  const pretty = capture('pretty');
  pretty.logger.error({ err: new Error('outer', { cause: new Error('inner') }), port: 4000 }, 'failed');
  expect(pretty.lines.join('')).toMatch(/error failed port=4000\n {2}Error: outer[\s\S]*inner/);
});

test('plain progress is silent about what is quick', async () => {
  const written: string[] = [];
  const output = { write: (part: string) => written.push(part) };
  await withProgress(plainProgress(output, { quietMs: 10_000, nowMs: () => 0 }), 'Quick', async () => {});
  expect(written).toEqual([]);
});

test('plain progress says when something slow begins, fails, and never draws', async () => {
  const written: string[] = [];
  const output = { write: (part: string) => written.push(part) };
  const progress = plainProgress(output, { quietMs: 0, nowMs: () => 0 });
  await withProgress(progress, 'Slow', () => new Promise((resolve) => setTimeout(resolve, 20)));
  expect(written.join('')).toBe('Slow …\nSlow: done (0.0 s)\n');
  const fail = (): Promise<never> =>
    new Promise((_, reject) => setTimeout(() => reject(new Error('no')), 20));
  await expect(withProgress(progress, 'Bad', fail)).rejects.toThrow('no');
  expect(written.join('')).toMatch(/Bad …\nBad: failed\n$/);
  expect(written.join('')).not.toContain('\r');
});

test('sizes are shown in the units that the configuration reads', () => {
  expect([0, 1_023, 1_024, 268_435_456].map(formatBytes)).toEqual(['0 B', '1023 B', '1.0 KB', '256.0 MB']);
});
