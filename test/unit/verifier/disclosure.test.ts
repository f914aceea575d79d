import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { outputCommitment, promptCommitment } from '../../../src/metering/commitment.ts';
import { checkDisclosure, tokenCommitment } from '../../../src/verifier/checks/disclosure.ts';
import { executedOf } from '../../../src/verifier/executed.ts';
import { type Disclosure, readDisclosure } from '../../../src/verifier/input/disclosure.ts';
import { readReceipt } from '../../../src/verifier/input/read.ts';
import type { View } from '../../../src/verifier/view.ts';
import { viewOf } from '../../../src/verifier/view.ts';
import { bytesOf, named, vector, viewed } from './vectors.ts';

const SALT = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const PROMPT = [0, 1, 258, 2 ** 32 - 1];
const OUTPUT = [7, 70_000];

const disclosure: Disclosure = {
  format: 'patchbay-disclosure/1',
  id: vector('plain').receipts[0]?.id ?? '',
  salt: SALT.toString('hex'),
  prompt: PROMPT,
  output: OUTPUT,
  sampling: { temperature: 0, repetitionPenalty: 1 },
  stop: { maxTokens: 4, strings: ['.'], tokenIds: [], ignoreEos: false },
};
const receipt = readReceipt(bytesOf(viewed(vector('plain'))));

function view(values: Readonly<Record<string, string>> = {}): View {
  const honest = {
    promptCommitment: tokenCommitment('prompt', disclosure.salt, PROMPT),
    outputCommitment: tokenCommitment('output', disclosure.salt, OUTPUT),
    promptTokens: '4',
    completionTokens: '2',
  };
  return viewOf(1, new Map(Object.entries({ ...honest, ...values })));
}

test('the commitment is that of the specification, byte by byte, and the one that is metered', () => {
  const bytes = Buffer.concat([
    Buffer.from('patchbay:prompt:v1\0'),
    SALT,
    Buffer.from('00000000' + '01000000' + '02010000' + 'ffffffff', 'hex'),
  ]);
  const found = tokenCommitment('prompt', disclosure.salt, PROMPT);
  expect(found).toBe(createHash('sha256').update(bytes).digest('hex'));
  expect(found).toBe(promptCommitment(SALT, PROMPT).toString('hex'));
  expect(tokenCommitment('output', disclosure.salt, OUTPUT)).toBe(
    outputCommitment(SALT, OUTPUT).toString('hex'),
  );
});

test('a disclosure of what the receipt commits to holds, and whatever differs is named', () => {
  const faults = (given: View, changes: Partial<Disclosure> = {}): readonly string[] =>
    named(checkDisclosure(receipt, given, { ...disclosure, ...changes }), 'false');
  expect(faults(view())).toEqual([]);
  expect(named(checkDisclosure(receipt, view(), disclosure), 'true')).toHaveLength(4);
  expect(faults(view(), { id: '019ad000-0000-7000-8000-000000000000' })).toEqual(['disclosure.id']);
  expect(faults(view(), { prompt: [0, 1, 259, 2 ** 32 - 1] })).toEqual(['disclosure.prompt']);
  expect(faults(view(), { output: [70_000, 7] })).toEqual(['disclosure.output']);
  expect(faults(view(), { output: [7] })).toEqual(['disclosure.output', 'disclosure.counts']);
  expect(faults(view(), { salt: '00'.repeat(32) })).toEqual(['disclosure.prompt', 'disclosure.output']);
  expect(faults(view({ completionTokens: '3' }))).toEqual(['disclosure.counts']);
  // A prompt and an output of the same tokens have commitments of their own.
  const swapped = { promptCommitment: tokenCommitment('output', disclosure.salt, PROMPT) };
  expect(faults(view(swapped))).toEqual(['disclosure.prompt']);
});

test('a prompt that was not charged counts as none; what is not open cannot be checked', () => {
  expect(named(checkDisclosure(receipt, view({ promptTokens: '0' }), disclosure), 'false')).toEqual([]);
  const blind = checkDisclosure(receipt, viewOf(1, new Map()), disclosure);
  expect(named(blind, 'unchecked')).toEqual(['disclosure.prompt', 'disclosure.output', 'disclosure.counts']);
});

test('what was executed is read off the open fields, or said to be missing', () => {
  const whole = {
    backbone: 'ab'.repeat(32),
    finish: 'stop',
    'part.0.version': 'a version',
    'part.0.digest': 'cd'.repeat(32),
    'part.0.weight': '3fe8000000000000',
  };
  const executed = (values: Readonly<Record<string, string>>) =>
    executedOf(viewOf(1, new Map(Object.entries(values))));
  const adapters = [{ digest: 'cd'.repeat(32), weight: 0.75 }];
  expect(executed(whole)).toEqual({ backbone: 'ab'.repeat(32), adapters, finish: 'stop' });
  const plain = { ...whole, 'part.0.version': '', 'part.0.digest': '', 'part.0.weight': '' };
  expect(executed(plain)).toEqual({ backbone: 'ab'.repeat(32), adapters: [], finish: 'stop' });
  expect(executed({ ...whole, 'part.0.digest': '' })).toBe('the engine did not execute part 0');
  const { backbone: _backbone, ...without } = whole;
  expect(executed(without)).toBe('backbone is not open');
  const { 'part.0.weight': _weight, ...light } = whole;
  expect(executed(light)).toBe('version, digest and weight of every part are not open');
});

test.each([
  [{ prompt: [1.5] }],
  [{ prompt: [2 ** 32] }],
  [{ output: ['1'] }],
  [{ salt: 'AB'.repeat(32) }],
  [{ id: 'x' }],
  [{ sampling: { temperature: 0 } }],
  [{ stop: { ...disclosure.stop, maxTokens: 0 } }],
  [{ seed: '1' }],
])('%j is no disclosure', (changes) => {
  const document = JSON.parse(JSON.stringify({ ...disclosure, ...changes }));
  expect(() => readDisclosure(bytesOf(document))).toThrow(expect.objectContaining({ code: 'PROOF_FORMAT' }));
});
