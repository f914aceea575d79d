import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { OWNER, TENANT_A } from '../../frauds/operator.ts';
import { Scenario } from '../../frauds/scenario.ts';
import { cli } from '../cli/fake-io.ts';
import { at } from './vectors.ts';

const folder = mkdtempSync(join(tmpdir(), 'patchbay-replay-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: unknown): string {
  const path = join(folder, `${name}.json`);
  writeFileSync(path, JSON.stringify(content));
  return path;
}

test.each([
  // Who cannot open the commitments cannot know whether these are the tokens of the request.
  [OWNER, 0, '– replay '],
  [TENANT_A, 1, '✗ disclosure.prompt '],
])('tokens that nothing binds to the receipt are not run again (%s)', async (reader, exit, line) => {
  const scenario = await Scenario.play();
  const receipt = await scenario.receipt(0, reader);
  const disclosure = {
    ...{ format: 'patchbay-disclosure/1', id: at(receipt, 'id'), salt: '00'.repeat(32) },
    // As many tokens as the receipt counts.
    ...{ prompt: Array(1_000).fill(1), output: Array(300).fill(2) },
    sampling: { temperature: 0, repetitionPenalty: 1 },
    stop: { maxTokens: 300, strings: [], tokenIds: [], ignoreEos: true },
  };
  // There is no backbone: a run would fail for that.
  const { code, out } = await cli([
    ...['verify', file(`receipt-${exit}`, receipt), '--keys', file('keys', scenario.operator.keys())],
    ...['--replay', file('disclosure', disclosure), '--backbone', join(folder, 'none')],
  ]);
  expect(code).toBe(exit);
  expect(out).toContain(line);
  expect(out).toMatch(/^– replay +not run: /m);
});
