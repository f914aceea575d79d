import { expect, test } from 'vitest';
import { EXIT, EXIT_TABLE } from '../../../src/cli/exit-codes.ts';
import { cli } from './fake-io.ts';

const COMMANDS = [
  ['serve'],
  ['config'],
  ['key'],
  ['operator-key'],
  ['backbone', 'import'],
  ['backbone', 'list'],
  ['adapter', 'push'],
  ['adapter', 'list'],
  ['adapter', 'validate'],
  ['infer'],
  ['run-batch'],
  ['bench', 'engine'],
  ['ledger', 'verify'],
  ['invoices', 'verify'],
  ['invoices', 'close'],
  ['reconcile'],
  ['economics'],
  ['export'],
  ['verify'],
  ['audit'],
  ['bundle'],
  ['proof-key', 'rotate'],
  ['chain', 'deploy'],
];

/** A command line of `export` that is right but for what is given. */
function exporting(wrong: Readonly<Record<string, string>>): string[] {
  const right = { '--source': 'usage', '--format': 'csv', '--out': 'x.csv', '--from': '2026-01-01' };
  return ['export', ...Object.entries({ ...right, ...wrong }).flat()];
}

test('--help names every command, documents every exit code and succeeds', async () => {
  const { code, out, err } = await cli(['--help']);
  expect(code).toBe(0);
  expect(err).toBe('');
  for (const [name] of COMMANDS) expect(out).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
  for (const [number, meaning] of EXIT_TABLE) expect(out).toContain(`${String(number).padEnd(4)}${meaning}`);
  expect(EXIT_TABLE.map(([number]) => number)).toEqual(Object.values(EXIT));
});

test.each(COMMANDS)('%s %s: its help describes every argument, and offers --json', async (...words) => {
  const { code, out } = await cli([...words.filter((word) => word !== undefined), '--help']);
  expect(code).toBe(0);
  expect(out).toContain('--json');
  const bare = out
    .split('\n')
    .filter((line) => /^ {2}-\S.*(?:>|[a-z])$/.test(line) && !/ {2,}\S+/.test(line.trim()));
  expect(bare).toEqual([]);
});

test('no line of any help is wider than the terminal allows', async () => {
  for (const words of [[], ...COMMANDS]) {
    const { out } = await cli([...words, '--help']);
    const examplesAside = out
      .split('\n')
      .filter((line) => !line.includes('npx ') && !line.includes('put line:'));
    expect(examplesAside.filter((line) => line.length > 118)).toEqual([]);
  }
});

test.each([
  ['an unknown command', ['serv']],
  ['an unknown option', ['config', '--jsn']],
  ['a missing argument', ['adapter', 'push']],
  ['a missing required option', ['run-batch', '--input', 'a']],
  [
    'a number out of range',
    ['run-batch', '--backbone', 'b', '--input', 'a', '--output', 'c', '--max-batch', '65'],
  ],
  ['bits that do not exist', ['backbone', 'import', 'd', '--bits', '16']],
  ['a group without its command', ['adapter']],
  ['fewer requests than streams', ['bench', 'engine', '--backbone', 'synthetic:30m', '--requests', '2']],
  ['input and output being one file', ['run-batch', '--backbone', 'b', '--input', 'a', '--output', 'a']],
  ['inference on nothing in particular', ['infer', '--prompt', 'x']],
  ['an adapter together with --plain', ['infer', '--plain', '--adapter', 'a', '--prompt', 'x']],
  ['a weight that is no number', ['infer', '--adapter', 'a:heavy', '--prompt', 'x']],
  ['no prompt', ['infer', '--plain']],
  ['a source that there is not', exporting({ '--source': 'users' })],
  ['a format that there is not', exporting({ '--format': 'xlsx' })],
  ['a time that is none', exporting({ '--from': 'yesterday' })],
  ['a day that the month does not have', exporting({ '--to': '2026-02-30' })],
])('%s is a usage error, told on stderr', async (_, argv) => {
  const { code, out, err } = await cli(argv, { environment: { PATCHBAY_KEY: 'pb_12345678' } });
  expect(code).toBe(2);
  expect(out).toBe('');
  expect(err).not.toBe('');
});

test('a misspelt command is answered with the likely one', async () => {
  expect((await cli(['infr'])).err).toContain('infer');
});
