import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import type { StartReport } from '../../../src/cli/app-port.ts';
import { banner } from '../../../src/cli/banner.ts';

const REPORT: StartReport = {
  graphqlUrl: 'http://127.0.0.1:4000/graphql',
  backbone: { name: 'starter', digest: 'ab'.repeat(32), parameters: 1_234_567 },
  memory: { totalBytes: 3 * 2 ** 30, parts: [{ name: 'weights', bytes: 2 ** 20 }] },
  database: { kind: 'embedded', location: '/data/my db' },
  operatorKey: { kind: 'new', key: 'pb_operator_1' },
  demoKey: { kind: 'new', key: 'pb_demo_1' },
  example: { adapter: 'sentiment', prompt: 'it\'s a "lovely" day', folder: 'starter/adapters/my mood' },
};
const CONTEXT = { readyMs: 1_234, keyFile: '/data/keys.json', chain: null };

/** What a shell makes of an example: its words, one a line. */
function words(command: string): string[] {
  const printed = execFileSync('bash', [
    '-c',
    `show() { printf '%s\\0' "$@"; }; curl() { show "$@"; }; npx() { show "$@"; }; node() { show "$@"; }; ${command}`,
  ]);
  return printed.toString().split('\0').slice(0, -1);
}

function exampleAfter(text: string, heading: string): string {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => line.trim().startsWith(heading)) + 1;
  const end = lines.findIndex((line, index) => index >= start && line.trim() === '');
  return lines.slice(start, end).join('\n');
}

test('the first time, both keys are shown, and every example carries the key as a shell reads it', () => {
  const text = banner(REPORT, CONTEXT);
  expect(text).toContain('pb_operator_1');
  const query = words(exampleAfter(text, 'Ask something'));
  expect(query).toContain('authorization: Bearer pb_demo_1');
  expect(JSON.parse(query.at(-1) ?? '')).toHaveProperty('query');
  expect(words(exampleAfter(text, 'Upload an adapter'))).toEqual([
    'patchbay',
    'adapter',
    'push',
    'starter/adapters/my mood',
    '--name',
    'my-adapter',
    '--wait',
    '--key',
    'pb_demo_1',
    '--url',
    REPORT.graphqlUrl,
  ]);
  expect(words(exampleAfter(text, 'Stream an inference'))).toEqual([
    'patchbay',
    'infer',
    '--adapter',
    'sentiment',
    '--prompt',
    'it\'s a "lovely" day',
    '--key',
    'pb_demo_1',
    '--url',
    REPORT.graphqlUrl,
  ]);
});

test('the streaming program is valid JavaScript once the shell has unquoted it', () => {
  const program = words(exampleAfter(banner(REPORT, CONTEXT), 'The same from a program')).at(-1) ?? '';
  expect(() =>
    execFileSync(process.execPath, ['--check', '--input-type=module', '-'], { input: program }),
  ).not.toThrow();
  expect(program).toContain('"prompt":"it\'s a \\"lovely\\" day"');
});

test('later starts show no key, and say where it is kept', () => {
  const stored = { kind: 'stored', prefix: 'pb_demo' } as const;
  const text = banner({ ...REPORT, operatorKey: stored, demoKey: stored }, CONTEXT);
  expect(text).not.toContain('pb_demo_1');
  expect(text).toContain('/data/keys.json');
  expect(text).toContain('$(npx patchbay key demo)');
});

test('without a starter adapter there is no example that could not work', () => {
  expect(banner({ ...REPORT, example: null }, CONTEXT)).not.toContain('adapter push');
});

test('a local chain that was started as well is named with what is on it', () => {
  const chain = {
    rpcUrl: 'http://127.0.0.1:8545',
    chainId: 1_234_567_890,
    ...{ anchor: `0x${'a1'.repeat(20)}`, distributor: `0x${'b2'.repeat(20)}`, token: `0x${'c3'.repeat(20)}` },
  };
  const text = banner(REPORT, { ...CONTEXT, chain });
  for (const value of Object.values(chain)) expect(text).toContain(String(value));
  expect(banner(REPORT, CONTEXT)).not.toContain('Chain');
});
